"""POST /v1/responses and its store: OpenAI's Responses API."""
