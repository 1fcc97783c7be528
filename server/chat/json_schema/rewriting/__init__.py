"""Rewrites keywords that llguidance lacks into equivalent supported ones."""
