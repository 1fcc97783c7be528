"""Provides background threads, and pools of threads that serve tenants in turn."""
