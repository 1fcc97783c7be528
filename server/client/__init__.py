"""Checks endpoint URLs and reads event streams, for the project's own clients."""
