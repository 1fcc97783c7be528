"""Access control: API keys, authentication and rate limits."""
