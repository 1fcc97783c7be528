"""Connections, their limits, and the shutdown of the server.

Builds on uvicorn; knows nothing of chat.
"""
