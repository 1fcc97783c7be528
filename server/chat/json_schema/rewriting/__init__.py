"""Rewrites keywords that llguidance lacks in terms of supported ones."""
