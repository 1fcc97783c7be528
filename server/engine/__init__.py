"""Runs the model for many sequences at once (continuous batching)."""
