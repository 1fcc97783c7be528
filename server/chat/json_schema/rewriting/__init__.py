"""Replaces schema keywords that llguidance lacks with keywords that it supports."""
