"""Tells systemd about the server's state, and takes over a listening socket.

The protocols are in sd_notify(3) and sd_listen_fds(3). No package is used: sdnotify is unmaintained, and
systemd-python needs libsystemd.
"""

from __future__ import annotations

import logging
import os
import socket

from server.errors import StartupError

READY = "READY=1"
STOPPING = "STOPPING=1"
FIRST_DESCRIPTOR = 3

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
        logger.warning("%s cannot be sent to systemd: %s", state, error)


def inherited_listener() -> socket.socket | None:
    """Return the listening socket passed by systemd, or None if there is none.

    Removes systemd's environment variables, so that a child process does not take the socket for its own.

    Raises StartupError if systemd has passed anything but one TCP socket.
    """
    count, process = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    if process != str(os.getpid()):
        return None
    listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    if count != "1" or listener.family not in (socket.AF_INET, socket.AF_INET6) or listener.type != socket.SOCK_STREAM:
        raise StartupError("The systemd socket unit must have exactly one ListenStream=, with a TCP port.")
    listener.set_inheritable(False)
    return listener
