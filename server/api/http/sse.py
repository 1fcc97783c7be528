"""Encodes and streams server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from pydantic_core import to_json
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.types import Message, Send

DONE = b"data: [DONE]\n\n"
SEPARATOR = "\n"
PING_COMMENT = ServerSentEvent(comment="ping", sep=SEPARATOR)

# sse-starlette must not end streams at the first signal: `server.front` lets running streams finish.
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

Events = AsyncGenerator[bytes]


def data_event(data: Mapping[str, Any]) -> bytes:
    """Return `data` as an event of compact JSON.

    NaN and infinities become null.
    """
    return b"data: " + to_json(data, inf_nan_mode="null") + b"\n\n"


def named_event(data: Mapping[str, Any]) -> bytes:
    """Return `data` as an event of compact JSON, named by its `type`."""
    name: str = data["type"]
    return b"event: " + name.encode() + b"\n" + data_event(data)


async def event_stream(
    events: Events, *, ping_seconds: float, ping: ServerSentEvent, last_event: Callable[[Exception], bytes]
) -> EventSourceResponse:
    """Return a response that streams `events`, with `ping` every `ping_seconds`.

    Waits up to `ping_seconds` for the first event. An error during this wait is raised, so that it can set the
    HTTP status.

    last_event: returns the event that ends the stream after a later error.
    """
    first = asyncio.ensure_future(anext(events, b""))  # a resumed stream may have no events left
    try:
        await asyncio.wait((first,), timeout=ping_seconds)
        if first.done():
            first.result()
    except BaseException:
        first.cancel()
        raise
    return EventStream(
        _from_first(first, events, last_event),
        headers={"Cache-Control": "no-cache"},
        sep=SEPARATOR,
        ping=ping_seconds,
        ping_message_factory=lambda: ping,
    )


class EventStream(EventSourceResponse):
    """An EventSourceResponse without a time limit for sending an event.

    Checking the limit would cost CPU time for each token. `server.front.connection` closes stalled connections anyway.
    """

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        await send(message)


async def _from_first(first: asyncio.Future[bytes], events: Events, last_event: Callable[[Exception], bytes]) -> Events:
    try:
        yield await first
        async for event in events:
            yield event
    except Exception as error:
        yield last_event(error)
    finally:
        first.cancel()
        await events.aclose()
