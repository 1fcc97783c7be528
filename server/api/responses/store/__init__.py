"""Stores responses, in memory or in a file, each for the key that made it."""
