"""Turns generated tokens into deltas of text, reasoning and tool calls."""
