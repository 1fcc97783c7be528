"""A small HTTP client for streams.

It uses little CPU time, because it may share the machine with the server under test.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httptools
import pydantic_core

from server.client.events import EventParser


class EventReader(asyncio.Protocol):
    """Reads one response and yields its server-sent events as parsed JSON.

    status: HTTP status, set before the first event.
    body: body of the response; empty if the status is 200.
    """

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._event_parser = EventParser()
        self._parser = httptools.HttpResponseParser(self)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        while (event := await self._events.get()) is not None:
            yield event

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._events.put_nowait(None)

    def on_body(self, data: bytes) -> None:
        self.status = self._parser.get_status_code()
        if self.status != 200:
            self.body += data
            return
        for event in self._event_parser.feed(data):
            self._events.put_nowait(event)

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._events.put_nowait(None)


@asynccontextmanager
async def post(url: str, body: dict[str, Any], headers: Mapping[str, str]) -> AsyncIterator[EventReader]:
    """Send `body` as JSON, and yield a reader of the response.

    The end of the `with` block closes the connection.
    """
    parts, content = urlsplit(url), pydantic_core.to_json(body)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    address = (parts.hostname or "", parts.port or (443 if context else 80))
    fields = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": len(content), **headers}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    loop = asyncio.get_running_loop()
    transport, reader = await loop.create_connection(EventReader, *address, ssl=context)
    try:
        transport.write("\r\n".join((*lines, "\r\n")).encode() + content)
        yield reader
    finally:
        transport.abort()
