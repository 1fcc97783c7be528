"""Stores responses in memory or in a file.

Each response belongs to the API key whose request created it.
"""
