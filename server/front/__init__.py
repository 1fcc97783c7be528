"""Connections, their limits and the server's shutdown, built on uvicorn.

This package is independent of chats and models.
"""
