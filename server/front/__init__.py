"""The sockets' side: connections, their limits, and the server's end. Knows ASGI and uvicorn, no chat."""
