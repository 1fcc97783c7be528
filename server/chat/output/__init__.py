"""Turns generated tokens into deltas: text, reasoning, tool calls and log-probabilities."""
