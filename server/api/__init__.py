"""The HTTP API: parses requests and sends answers as JSON or SSE."""
