"""The Hugging Face hub: which files a model needs, their download, the local cache."""
