"""Carries requests to replicas, and runs the application for them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Scope

from server.ray.response_stream import ReplyAddress, encode


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """A request with its whole body.

    headers: names and values, as in an ASGI scope.
    client: address and port of the client; None if they are unknown.
    blocks: names of the prompt's blocks, for the router; empty if the prompt is unknown.
    """

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    client: tuple[str, int] | None
    body: bytes
    blocks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, request: Request, body: bytes, blocks: tuple[bytes, ...]) -> ForwardedRequest:
        """Return `request` and its body as a ForwardedRequest."""
        scope, client = request.scope, request.client
        return cls(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"],
            headers=tuple((bytes(name), bytes(value)) for name, value in scope["headers"]),
            client=(client.host, client.port) if client else None,
            body=body,
            blocks=blocks,
        )

    def scope(self) -> Scope:
        """Return the ASGI scope of the request."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": list(self.headers),
            "client": self.client,
            "server": None,
            "state": {},
        }


async def respond(app: ASGIApp, request: ForwardedRequest, address: ReplyAddress) -> None:
    """Run `app` for a request and send its response to `address`.

    `app` sees a client that disconnects if the ingress closes the connection or if this call is cancelled.

    Raises BrokenResponseError if the ingress cannot be reached.
    """
    reader, writer = await address.connect()
    closed = asyncio.create_task(_until_closed(reader))
    received = False

    async def receive() -> Message:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": request.body, "more_body": False}
        await asyncio.wait((closed,))
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if not closed.done():
            writer.write(encode(message))
            with contextlib.suppress(OSError):
                await writer.drain()

    running = asyncio.ensure_future(app(request.scope(), receive, send))
    try:
        await asyncio.wait((running,))
    except asyncio.CancelledError:
        writer.transport.abort()
        raise
    finally:
        writer.close()
        await asyncio.wait((running, closed))
    await running


async def _until_closed(reader: asyncio.StreamReader) -> None:
    """Wait until the ingress, which sends nothing, closes the connection."""
    with contextlib.suppress(OSError):
        await reader.read()
