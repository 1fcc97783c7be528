"""Connections, their limits and the server's shutdown, built on uvicorn."""
