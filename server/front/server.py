"""Runs the application on its sockets, and shuts it down in stages.

The first signal starts these stages, and the second kills the process:

- `drain`: requests are accepted for another `drain_delay` seconds.
- `stop`: new requests are refused, and running ones have `drain_timeout` seconds to finish.
- `abandon`: the remaining requests end.

The application implements the stages as a Drainable.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.server import HANDLED_SIGNALS

from server.errors import StartupError
from server.front.acceptor import Acceptor
from server.front.connection import READ_BUFFER, Connection, ConnectionLimits
from server.front.descriptors import max_open
from server.front.systemd import STOPPING, notify

logger = logging.getLogger(__name__)

ABANDON_SECONDS = 5.0
"""Maximum time to send errors to abandoned requests and to stop the engine."""


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """Settings of the server. Times are in seconds.

    keep_alive: how long an idle connection stays open.
    drain_delay: how long requests are accepted after the first signal.
    drain_timeout: how long running requests may continue after `drain_delay`.
    forwarded_allow_ips: proxies whose X-Forwarded-For is trusted, such as "10.0.0.1,10.0.0.2".
    ssl_certfile, ssl_keyfile: certificate and key for HTTPS; None for HTTP.
    """

    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    keep_alive: int = 75
    drain_delay: float = 0
    drain_timeout: float = 30
    forwarded_allow_ips: str = "127.0.0.1"
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None


class Drainable(Protocol):
    """The application's side of the shutdown: one method per stage, called in order."""

    def drain(self) -> None: ...
    def stop(self) -> None: ...
    def abandon(self) -> None: ...


class UvicornConfig(uvicorn.Config):
    """Uvicorn's configuration, with the limits and objects that connections share."""

    def __init__(self, app: FastAPI, config: FrontConfig) -> None:
        super().__init__(
            app,
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
        self.idle: dict[Connection, None] = {}
        self.read_buffer = memoryview(bytearray(READ_BUFFER))


class FrontServer(uvicorn.Server):
    """Uvicorn's server with an orderly shutdown."""

    def __init__(self, app: FastAPI, state: Drainable, config: FrontConfig) -> None:
        """Create a server for `app`.

        state: object to call in each stage of the shutdown.

        Raises StartupError if the certificate or its key cannot be loaded.
        """
        settings = UvicornConfig(app, config)
        try:
            settings.load()
        except (OSError, ssl.SSLError) as error:
            raise StartupError(
                f"--ssl-certfile, --ssl-keyfile: the certificate or its key cannot be loaded: {error}."
            ) from None
        super().__init__(settings)
        self.servers = []  # the acceptors take the place of asyncio's servers
        self._idle = settings.idle
        self._acceptors: list[Acceptor] = []
        self._state = state
        self._front = config
        self._signal: signal.Signals | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the shutdown on the first signal. The next one kills the process."""
        for handled in HANDLED_SIGNALS:
            signal.signal(handled, signal.SIG_DFL)
        self._signal = signal.Signals(sig)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and accept connections. Overrides uvicorn's method."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(1)
        self._acceptors = [self._acceptor(listener) for listener in sockets or ()]
        for acceptor in self._acceptors:
            acceptor.start()
        self.started = True

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        limits, connections = self._front.limits, cast(set[Connection], self.server_state.connections)
        return Acceptor(
            listener,
            lambda: Connection(self.config, self.server_state, self.lifespan.state),
            connections,
            self._idle,
            max_open(limits.max_connections),
            self.config.ssl,
            limits.read_timeout,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Run the stages of the shutdown. Overrides uvicorn's method.

        Kills the process if the stages take much longer than `drain_timeout`.
        """
        timeout, loop = self._front.drain_timeout, asyncio.get_running_loop()
        if self._signal is not None:  # without a signal, the start has failed, and only the reason is printed
            logger.info("%s: stopping; running requests have %g seconds to finish.", self._signal.name, timeout)
        notify(STOPPING)
        self._state.drain()
        await asyncio.sleep(self._front.drain_delay)
        self._state.stop()
        timers = (
            loop.call_later(timeout, self._state.abandon),
            loop.call_later(timeout + ABANDON_SECONDS, self._abort_connections),
        )
        # A hanging engine would block the shutdown forever.
        last_resort = threading.Timer(timeout + 2 * ABANDON_SECONDS, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)
        for timer in (*timers, last_resort):
            timer.cancel()

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.transport.abort()
