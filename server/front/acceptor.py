"""Accepts connections, and closes idle ones if too many are open.

asyncio's own servers would log a traceback for every failure to accept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from server.front.connection import Connection

BATCH = 64
"""Maximum number of connections accepted before the event loop turns to other work."""

PAUSE_SECONDS = 0.1
"""Pause before accepting again if no connection can be closed."""

WARNING_SECONDS = 60.0
"""Minimum time between two warnings about too many connections."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Acceptor:
    """Accepts client connections.

    At `max_open` connections, a new one replaces the one that has been idle the longest. If none is idle, the new one
    waits in the listener's backlog.

    protocol: creates the handler of a connection.
    connections: all open connections.
    idle: idle connections, in the order in which they became idle.
    handshake_timeout: maximum seconds for a TLS handshake.
    """

    listener: socket.socket
    protocol: Callable[[], Connection]
    connections: set[Connection]
    idle: dict[Connection, None]
    max_open: int
    tls: ssl.SSLContext | None
    handshake_timeout: float
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _opening: dict[asyncio.Task[None], None] = field(default_factory=dict)  # the oldest first
    _pause: asyncio.TimerHandle | None = None
    _warned_at: float | None = None

    def start(self) -> None:
        """Start accepting."""
        self.listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Stop accepting, and end unfinished TLS handshakes."""
        self._loop.remove_reader(self.listener)
        if self._pause is not None:
            self._pause.cancel()
        for opening in list(self._opening):
            opening.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self.listener, self._accept)

    def _accept(self) -> None:
        for _ in range(BATCH):
            if len(self.connections) + len(self._opening) >= self.max_open:
                self._make_room()
                return
            try:
                accepted, _ = self.listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors or no memory for sockets
                self._make_room()
                return
            accepted.setblocking(False)
            opening = self._loop.create_task(self._open(accepted))
            self._opening[opening] = None
            opening.add_done_callback(lambda done: self._opening.pop(done, None))

    async def _open(self, accepted: socket.socket) -> None:
        seconds = None if self.tls is None else self.handshake_timeout
        try:
            await self._loop.connect_accepted_socket(
                self.protocol, accepted, ssl=self.tls, ssl_handshake_timeout=seconds
            )
        except OSError as error:  # a failed TLS handshake
            logger.debug("A connection could not be opened: %s", error)

    def _make_room(self) -> None:
        """Close one connection to make room for a new one.

        Ends the oldest TLS handshake if there are more handshakes than idle connections. Otherwise closes the
        connection idle the longest. If there is neither, pauses accepting.
        """
        now = time.monotonic()
        if self._warned_at is None or now > self._warned_at + WARNING_SECONDS:
            self._warned_at = now
            logger.warning("The limit of %d open connections is reached: closing idle ones.", self.max_open)
        if self.tls is not None and len(self._opening) > len(self.idle):
            opening = next(iter(self._opening))
            del self._opening[opening]
            opening.cancel()
        elif self.idle:
            oldest = next(iter(self.idle))
            del self.idle[oldest]
            oldest.transport.abort()
        else:
            self._loop.remove_reader(self.listener)
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
