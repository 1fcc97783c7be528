"""Connects the engine's sequences and prefix cache to the prefix cache on disk."""
