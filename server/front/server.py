"""Runs the application on its sockets, and ends it in order: it drains on the first signal, and is gone on the second.

What happens then: the application is told to `drain` and still takes requests for `drain_delay` seconds; it is told to
`stop` taking them, listeners close, what runs has `drain_timeout` seconds to finish; what runs still is `abandon`ed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

import uvicorn
from fastapi import FastAPI
from uvicorn.server import HANDLED_SIGNALS

from server.errors import StartupError
from server.front.connection import Connection, ConnectionLimits

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 5.0  # to tell the clients of what was abandoned, and to end the engine


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """How to serve; times are in seconds. Without `ssl_certfile` it is HTTP.

    `keep_alive` is for idle connections; `forwarded_allow_ips` are the proxies whose X-Forwarded-For is believed.
    """

    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    keep_alive: int = 75
    drain_delay: float = 0
    drain_timeout: float = 30
    forwarded_allow_ips: str = "127.0.0.1"
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None


class Drainable(Protocol):
    """What is told how the server's end goes on."""

    def drain(self) -> None: ...
    def stop(self) -> None: ...
    def abandon(self) -> None: ...


class UvicornConfig(uvicorn.Config):
    """Uvicorn's own, with `limits` for the connections."""

    def __init__(self, app: FastAPI, config: FrontConfig) -> None:
        super().__init__(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=config.keep_alive,
            timeout_graceful_shutdown=None,
            forwarded_allow_ips=config.forwarded_allow_ips,
            ssl_certfile=config.ssl_certfile,
            ssl_keyfile=config.ssl_keyfile,
        )
        self.limits = config.limits


class FrontServer(uvicorn.Server):
    """Serves `app`, and tells `state` of its end."""

    def __init__(self, app: FastAPI, state: Drainable, config: FrontConfig) -> None:
        """Raises StartupError where the certificate cannot be used."""
        settings = UvicornConfig(app, config)
        try:
            settings.load()
        except (OSError, ssl.SSLError) as error:
            raise StartupError(f"--ssl-certfile, --ssl-keyfile: {error}.") from None
        super().__init__(settings)
        self._state = state
        self._front = config
        self._signal: signal.Signals | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks; the next one finds nobody who could put it off."""
        for handled in HANDLED_SIGNALS:
            signal.signal(handled, signal.SIG_DFL)
        self._signal = signal.Signals(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, stop, and abandon what does not end in time."""
        timeout, loop = self._front.drain_timeout, asyncio.get_running_loop()
        if self._signal is not None:  # a start that fails has none, and its reason is all that is printed
            logger.info("%s: stopping; running requests have %g seconds to finish.", self._signal.name, timeout)
        self._state.drain()
        await asyncio.sleep(self._front.drain_delay)
        self._state.stop()
        timers = (
            loop.call_later(timeout, self._state.abandon),
            loop.call_later(timeout + LAST_WORDS_SECONDS, self._cut),
        )
        # An engine that hangs would hold up the end for ever.
        last_resort = threading.Timer(timeout + 2 * LAST_WORDS_SECONDS, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()
        await super().shutdown(sockets)
        for timer in (*timers, last_resort):
            timer.cancel()

    def _cut(self) -> None:
        """Hang up on the clients that are left."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.transport.abort()
