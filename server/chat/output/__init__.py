"""Turns generated tokens into deltas of text, thoughts and tool calls."""
