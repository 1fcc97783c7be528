"""The Hugging Face hub: downloads models and finds them in the cache."""
