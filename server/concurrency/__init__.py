"""Concurrency: background threads, and pools that serve tenants in turn."""
