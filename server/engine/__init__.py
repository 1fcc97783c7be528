"""Runs continuous batching: turns token requests into steps and token streams."""
