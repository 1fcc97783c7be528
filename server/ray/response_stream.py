"""Carries responses from replicas to the ingress over TCP.

Ray carries each request and waits for the end of its response. The response itself takes a connection of its own,
because a message through Ray costs many times the CPU time of a write to a socket, and each token is a message.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from starlette.types import Message

TICKET_BYTES = 16
CONNECT_SECONDS = 5.0
TICKET_SECONDS = 10.0
"""Time for a new connection to send its ticket."""

START, BODY, LAST_BODY = b"sbe"
"""Kinds of frames. The first one has status and headers as JSON; the others have parts of the body."""
_HEADER = struct.Struct(">BI")  # kind and length of the payload

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BrokenResponseError(Exception):
    """The connection for a response ended before the response, or could not be opened."""


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where the ingress awaits one response.

    ticket: the secret that tells the response from others; the first bytes on the connection.
    """

    host: str
    port: int
    ticket: bytes

    async def connect(self) -> Connection:
        """Open the connection for the response.

        Raises BrokenResponseError if the ingress cannot be reached.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError as error:
            raise BrokenResponseError(f"The ingress at {self.host}:{self.port} cannot be reached: {error}") from error
        writer.write(self.ticket)
        return reader, writer


class ResponseListener:
    """Accepts the connections that carry responses."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._port = 0
        self._server: asyncio.Server | None = None
        self._expected: dict[bytes, asyncio.Future[Connection]] = {}

    @classmethod
    async def start(cls, host: str) -> Self:
        """Listen on any free port of the address `host`."""
        listener = cls(host)
        listener._server = await asyncio.start_server(listener._accept, host, 0)
        listener._port = listener._server.sockets[0].getsockname()[1]
        return listener

    @contextmanager
    def expect(self) -> Iterator[tuple[ReplyAddress, asyncio.Future[Connection]]]:
        """Expect one response during the block, and close its connection afterwards."""
        ticket = secrets.token_bytes(TICKET_BYTES)
        connection = self._expected[ticket] = asyncio.get_running_loop().create_future()
        try:
            yield ReplyAddress(self._host, self._port, ticket), connection
        finally:
            self._expected.pop(ticket, None)
            if connection.done():
                connection.result()[1].close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ticket = await asyncio.wait_for(reader.readexactly(TICKET_BYTES), TICKET_SECONDS)
            self._expected.pop(ticket).set_result((reader, writer))
        except (KeyError, TimeoutError, EOFError, OSError):
            writer.close()


def encode(message: Message) -> bytes:
    """Encode an ASGI message of a response."""
    if message["type"] == "http.response.start":
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in message["headers"]]
        kind, payload = START, json.dumps([message["status"], headers]).encode()
    else:
        kind, payload = BODY if message.get("more_body") else LAST_BODY, message.get("body", b"")
    return _HEADER.pack(kind, len(payload)) + payload


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """Yield the messages of a response, until it is complete.

    Raises BrokenResponseError if the connection ends before.
    """
    kind = START
    while kind != LAST_BODY:
        kind, payload = await _frame(reader)
        if kind == START:
            status, headers = json.loads(payload)
            pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            yield {"type": "http.response.start", "status": status, "headers": pairs}
        else:
            yield {"type": "http.response.body", "body": payload, "more_body": kind == BODY}


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a frame and return its kind and payload."""
    try:
        kind, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        return kind, await reader.readexactly(length)
    except (EOFError, OSError) as error:
        raise BrokenResponseError("The connection for the response has ended before the response.") from error
