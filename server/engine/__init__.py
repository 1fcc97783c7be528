"""Requests -> tokens: continuous batching over the runtime's sessions and slots."""
