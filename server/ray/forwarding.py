"""Carries requests to replicas, and responses back as ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope

Batch = list[Message]
"""Consecutive ASGI messages of a response. Ray transfers a batch as one object."""


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


async def respond(app: ASGIApp, request: ForwardedRequest) -> AsyncGenerator[Batch]:
    """Run `app` for a request and yield its response in batches of messages.

    Closing the generator early tells `app` that the client has disconnected.
    """
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    received = False

    async def receive() -> Message:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": request.body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    running = asyncio.create_task(_run(app, request.scope(), receive, messages))
    try:
        while batch := await _next_batch(messages):
            yield batch
        await running
    finally:
        gone.set()
        await asyncio.wait((running,))


async def _run(app: ASGIApp, scope: Scope, receive: Receive, messages: asyncio.Queue[Message | None]) -> None:
    try:
        await app(scope, receive, messages.put)
    finally:
        messages.put_nowait(None)


async def _next_batch(messages: asyncio.Queue[Message | None]) -> Batch:
    """Wait for a message, and return all messages in the queue.

    Returns an empty batch if the response is complete.
    """
    batch: Batch = []
    message = await messages.get()
    while message is not None:
        batch.append(message)
        if messages.empty():
            return batch
        message = messages.get_nowait()
    if batch:
        messages.put_nowait(None)  # ends the next call
    return batch
