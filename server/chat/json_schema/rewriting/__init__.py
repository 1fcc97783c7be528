"""Replaces keywords that llguidance lacks by supported ones."""
