"""Benchmarks for any OpenAI-compatible endpoint, over HTTP only."""
