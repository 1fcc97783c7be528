"""Continuous batching: turns token requests into steps, and steps into streams."""
