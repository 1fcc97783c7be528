"""Connects the engine to the prefix cache on disk."""
