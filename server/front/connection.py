"""One client's connection: uvicorn's protocol, held to times and sizes, with errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 64 * 2**10  # bytes of a request line with its headers, as long as they are not complete
SEND_BUFFER = 256 * 2**10  # bytes; of larger ones the system tells only after megabytes that the client reads
CROWDED_SECONDS = 1.0  # for the first request of a connection that is one too many

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and for how many seconds a client may take to send a request's head, or to
    read nothing of its answer."""

    max_connections: int = 4096
    read_timeout: float = 60
    client_idle_timeout: float = 60


class Connection(HttpToolsProtocol):
    """Cuts clients that are slow to send a request's head, or the rest of a body that nobody wants, or to read.

    Notes in `scope["state"]["crowded"]` that there are more connections than may be.
    """

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._limits: ConnectionLimits = config.limits
        self._in_head, self._in_message = True, False
        self._head_bytes = 0
        self._sender_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    @property
    def _crowded(self) -> bool:
        return len(self.connections) > self._limits.max_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does it for sockets that say they are TCP, and accepted ones do not. Without it what follows a first
        # packet waits until the client has acknowledged that, which it puts off for 40 ms.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._await_sender(CROWDED_SECONDS if self._crowded else self._limits.read_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender_done()
        self._reader_reads()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._await_sender(self._limits.read_timeout)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD:
            self._refuse(431, f"The request's headers are too large: at most {MAX_HEAD:,} bytes are taken.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["crowded"] = self._crowded

    def on_headers_complete(self) -> None:
        self._in_head, self._in_message = False, True
        self._sender_done()
        super().on_headers_complete()
        if self._crowded:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_head, self._in_message = True, False
        self._head_bytes = 0
        self._sender_done()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message:
            self._await_sender(self._limits.read_timeout)

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's name for refusing what is not HTTP."""
        self._refuse(400, msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader_timer is None:
            self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader_reads()

    def _await_sender(self, seconds: float) -> None:
        if self._sender_timer is None:
            self._sender_timer = self.loop.call_later(seconds, self.transport.abort)

    def _sender_done(self) -> None:
        if self._sender_timer is not None:
            self._sender_timer.cancel()
            self._sender_timer = None

    def _await_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self._limits.client_idle_timeout, self._check_reader, unread)

    def _check_reader(self, unread: int) -> None:
        """Cut a client that has read nothing since `unread` bytes were left for it."""
        if self.transport.get_write_buffer_size() < unread:
            self._await_reader()
        else:
            self.transport.abort()

    def _reader_reads(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _refuse(self, status: int, message: str) -> None:
        """Answer in the application's place, unless it is answering already, and hang up."""
        logger.info("Refused with %d what %s sent: %s", status, self.client and self.client[0], message)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            body = json.dumps({"error": error}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
