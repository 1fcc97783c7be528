"""Opens the socket that clients connect to."""

from __future__ import annotations

import os
import socket

from server.errors import StartupError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`.

    Raises StartupError if the server cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartupError(
            f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}. "
            "Choose another address with --host or another port with --port."
        ) from None


def address_of(listener: socket.socket, *, https: bool) -> str:
    """Return the URL of `listener` for clients on this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if https else 'http'}://{shown}:{port}"
