"""Reports to systemd that the server is ready or stopping, as in sd_notify(3).

The package sdnotify is unmaintained, and systemd-python needs libsystemd.
"""

from __future__ import annotations

import logging
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"

logger = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `state`, such as "READY=1", to the socket in NOTIFY_SOCKET, if set.

    A path that starts with @ is in Linux's abstract namespace.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)
    except OSError as error:
        logger.warning("systemd cannot be told %s: %s", state, error)
