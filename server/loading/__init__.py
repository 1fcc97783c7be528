"""Finds and opens the model that the settings choose, and creates its engine."""
