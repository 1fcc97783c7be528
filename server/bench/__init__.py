"""Load and measurements for any OpenAI-compatible endpoint, over HTTP alone."""
