"""Server-sent events: JSON in, frames out, and an error's last word. Knows no chat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

from server.api.errors import describe
from server.api.journal import exchange_of

PING_SECONDS = 15
MEDIA_TYPE = "text/event-stream; charset=utf-8"

# Streams that run when the server is told to stop may end by themselves.
AppStatus.enable_automatic_graceful_drain = False


async def event_stream(events: AsyncIterator[dict[str, Any]], request: Request) -> EventSourceResponse:
    """Send `events` as they come, then [DONE]; a failure is told in the last event, without [DONE].

    Waits for the first event, one ping's time at most, and raises what fails by then: until there is something to
    send, an error can still have its own status. `events` is closed when the client leaves.
    """
    first = asyncio.ensure_future(anext(events))
    try:
        await asyncio.wait((first,), timeout=PING_SECONDS)
        if first.done():
            first.result()
    except BaseException:
        first.cancel()
        raise
    response = EventSourceResponse(
        _frames(first, events, request),
        sep="\n",
        ping=PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
    response.headers["Content-Type"] = MEDIA_TYPE
    return response


async def _frames(
    first: asyncio.Future[dict[str, Any]], events: AsyncIterator[dict[str, Any]], request: Request
) -> AsyncIterator[dict[str, str]]:
    try:
        yield {"data": to_json(await first)}
        async for event in events:
            yield {"data": to_json(event)}
    except Exception as error:
        told = describe(error, request.state.request_id)
        exchange_of(request).error_code = told.label
        yield {"data": to_json(told.body)}
    else:
        yield {"data": "[DONE]"}
    finally:
        first.cancel()


def to_json(value: Any) -> str:
    """Compact JSON, with no number that JSON cannot say."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
