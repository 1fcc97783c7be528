"""Parses and renders tool calls in the model's own syntax."""
