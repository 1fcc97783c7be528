"""The chat layer: turns requests into prompts and constraints, and generated tokens into deltas."""
