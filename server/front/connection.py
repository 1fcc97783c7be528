"""Client connections: uvicorn's HTTP protocol with timeouts and limits.

Sends its own errors in OpenAI's format.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 64 * 2**10
"""Most bytes of a request line with its headers."""

SEND_BUFFER = 256 * 2**10
"""Bytes of the socket's send buffer.

With a larger one, a client that reads slowly is noticed only after megabytes.
"""

CROWDED_SECONDS = 1.0
"""Time that a connection above the limit has to send its first request."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of client connections; times are in seconds.

    `max_connections`: most connections that are served; requests on others are refused.
    `read_timeout`: time to send the head of a request.
    `client_idle_timeout`: how long a client may read nothing of its response.
    """

    max_connections: int = 4096
    read_timeout: float = 60
    client_idle_timeout: float = 60


class Connection(HttpToolsProtocol):
    """A connection that aborts slow clients.

    A client is slow if it takes too long to send a request's head, or the rest of a body that was already answered, or
    to read its response. Sets `scope["state"]["crowded"]` to whether there are more than `max_connections`.
    """

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._limits: ConnectionLimits = config.limits
        self._in_head, self._in_message = True, False
        self._head_bytes = 0
        self._read_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def _crowded(self) -> bool:
        return len(self.connections) > self._limits.max_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets TCP_NODELAY only if the socket's `proto` is IPPROTO_TCP; that of accepted ones is 0. Without it,
        # a second packet waits until the client acknowledges the first, which clients delay by 40 ms.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._start_read_timer(CROWDED_SECONDS if self._crowded else self._limits.read_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_read_timer()
        self._stop_idle_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._start_read_timer(self._limits.read_timeout)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD:
            self._refuse(431, f"The request's headers are too large: the limit is {MAX_HEAD:,} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["crowded"] = self._crowded

    def on_headers_complete(self) -> None:
        self._in_head, self._in_message = False, True
        self._stop_read_timer()
        super().on_headers_complete()
        if self._crowded:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_head, self._in_message = True, False
        self._head_bytes = 0
        self._stop_read_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message:
            self._start_read_timer(self._limits.read_timeout)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not valid HTTP.

        Overrides uvicorn's method of that name.
        """
        self._refuse(400, msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._idle_timer is None:
            self._start_idle_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_idle_timer()

    def _start_read_timer(self, seconds: float) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _start_idle_timer(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._idle_timer = self.loop.call_later(self._limits.client_idle_timeout, self._check_idle, unread)

    def _check_idle(self, unread: int) -> None:
        """Abort the connection if the client has read none of `unread` bytes."""
        if self.transport.get_write_buffer_size() < unread:
            self._start_idle_timer()
        else:
            self.transport.abort()

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _refuse(self, status: int, message: str) -> None:
        """Send an error unless a response has started; close the connection."""
        logger.info("Refused a request from %s with status %d: %s", self.client and self.client[0], status, message)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            body = json.dumps({"error": error}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
