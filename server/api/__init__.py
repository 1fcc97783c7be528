"""HTTP only: requests validated into typed values, answers framed as JSON or SSE."""
