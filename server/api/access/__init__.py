"""Who may call: API keys, authentication, admission, rate limits."""
