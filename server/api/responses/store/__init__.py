"""Stores responses in memory or in a file.

Only the key that created a response can use the response.
"""
