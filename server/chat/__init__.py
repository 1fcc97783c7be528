"""Turns requests into prompts and constraints, and tokens into deltas."""
