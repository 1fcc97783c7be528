"""The Hugging Face hub: choose the files of a model, download them, find them in the cache."""
