"""Stores responses in memory or in a file. Each belongs to the key that created it."""
