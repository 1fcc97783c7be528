"""POST /v1/completions: OpenAI's text completion API."""
