"""Client connections: uvicorn's HTTP protocol with timeouts and limits.

Invalid HTTP gets an error in OpenAI's format.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from server.front.unchunked import end_with_connection

MAX_HEAD = 64 * 2**10
"""Maximum size of a request's head in bytes.

Also limits trailers, and the chunk headers between two parts of a body.
"""

READ_BUFFER = 16 * 2**10
"""Maximum number of bytes parsed before the event loop turns to other clients.

These bytes may hold thousands of chunks or dozens of requests.
"""

MAX_PIPELINED = 64
"""Maximum number of requests waiting on one connection for earlier responses."""

TOO_MANY_PIPELINED = f"Too many pipelined requests: the limit is {MAX_PIPELINED}."

SEND_BUFFER = 256 * 2**10
"""Size of the socket's send buffer in bytes.

A larger buffer would take megabytes of output before the server notices a slow client.
"""

CROWDED_SECONDS = 1.0
"""Time in which a connection above `max_connections` must send its first request."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits on client connections. Times are in seconds.

    max_connections: maximum number of connections served; further ones get errors.
    read_timeout: maximum time to send a request's head, or the rest of its body after the response.
    client_idle_timeout: maximum time for which a client may stop reading the response.
    """

    max_connections: int = 4096
    read_timeout: float = 60
    client_idle_timeout: float = 60


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """An HTTP connection that limits the time and the data of its client.

    It is aborted if the client is too slow to send a head, to read the response, or to finish sending a body after the
    response. Trailers and upgrades are ignored.

    scope["state"]["crowded"]: tells the application that too many connections are open.
    config.idle: connections without a request, in the order in which they became idle.
    config.read_buffer: buffer into which all connections read.
    """

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._limits: ConnectionLimits = config.limits
        self._idle: dict[Connection, None] = config.idle
        self._read_buffer: memoryview = config.read_buffer
        self._in_head, self._in_message = True, False
        self._overhead = 0  # bytes parsed since the last part of a body, or since the end of a head or a message
        self._running: RequestResponseCycle | None = None  # the request that is being answered
        self._read_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def _crowded(self) -> bool:
        return len(self.connections) > self._limits.max_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets TCP_NODELAY only if the socket's `proto` is IPPROTO_TCP, but accepted sockets have 0. Without
        # TCP_NODELAY, a second packet waits for the acknowledgement of the first, which clients delay by 40 ms.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._idle[self] = None
        self._start_read_timer(CROWDED_SECONDS if self._crowded else self._limits.read_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        self._stop_read_timer()
        self._stop_unread_timer()
        self._disconnect()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the bytes that were read. Replaces uvicorn's `data_received`."""
        self._unset_keepalive_if_required()
        if self._in_head and self._running is None:
            self._start_read_timer(self._limits.read_timeout)
        try:
            self._parse(self._read_buffer[:nbytes])
        except httptools.HttpParserError:
            full = len(self.pipeline) >= MAX_PIPELINED
            self._refuse(400, TOO_MANY_PIPELINED if full else "Invalid HTTP request received.")
        else:
            if self._overhead > MAX_HEAD:
                part = "headers" if self._in_head else "chunk headers or trailers"
                self._refuse(431, f"The request's {part} are too large: the limit is {MAX_HEAD:,} bytes.")

    def _parse(self, data: memoryview) -> None:
        self._overhead += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._ignore_upgrade()
            self._parse(data[offer.args[0] :])

    def _ignore_upgrade(self) -> None:
        """Parse a head again without its offer to upgrade the protocol.

        Otherwise the parser would skip the request's body.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError("The method CONNECT is not supported.")
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # like uvicorn's own parser
        self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise httptools.HttpParserError(TOO_MANY_PIPELINED)  # stops the parser
        super().on_message_begin()
        self.scope["state"]["crowded"] = self._crowded

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise, this is a trailer
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head, self._in_message = False, True
        self._overhead = 0
        self._stop_read_timer()
        super().on_headers_complete()
        self._idle.pop(self, None)
        if self._running is None:
            self._running = self.cycle
        if self.scope["http_version"] < "1.1":
            end_with_connection(self.cycle)
        if self._crowded:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head, self._in_message = True, False
        self._overhead = 0
        self._stop_read_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self._running is None:
            self._idle[self] = None
            if self._in_message or self._overhead:
                self._start_read_timer(self._limits.read_timeout)
        if self.transport.is_closing():
            self._watch_unread()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_unread()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_unread_timer()

    def _start_read_timer(self, seconds: float) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _watch_unread(self) -> None:
        """Start a timer that aborts the connection if the client stops reading."""
        unread = self.transport.get_write_buffer_size()
        if unread and self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self._limits.client_idle_timeout, self._check_unread, unread)

    def _check_unread(self, unread: int) -> None:
        """Abort the connection if the client has read nothing since the timer started.

        unread: number of bytes that the client had not read when the timer started.
        """
        self._unread_timer = None
        if self.transport.get_write_buffer_size() < unread:
            self._watch_unread()
        else:
            self.transport.abort()

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _refuse(self, status: int, message: str) -> None:
        """Send an error, unless a response has started, and close the connection."""
        logger.info("Refused a request from %s with status %d: %s", self.client and self.client[0], status, message)
        if self._running is None or not self._running.response_started:
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            body = json.dumps({"error": error}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
        self._disconnect()
        self._watch_unread()

    def _disconnect(self) -> None:
        """Mark the client as disconnected in all unfinished requests.

        Uvicorn marks only the last one.
        """
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
