"""Forwards a request, and retries if the replica dies before it responds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from server.api.http.api_error import describe
from server.api.http.dialect import dialect_of
from server.ray.errors import LOST_REPLICA, translated
from server.ray.forwarding import ForwardedRequest
from server.ray.response_stream import TICKET_SECONDS, BrokenResponseError, ResponseListener, messages

MAX_REPLAYS = 4
REPLAY_SECONDS = 0.25
"""Delay before the first retry of a request.

Each further delay is twice as long. The delays give Ray time to notice which replicas are gone.
"""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempts:
    """The attempts to answer one request.

    handle: Ray's handle to the replicas' method `answer`.
    listener: where replicas send their responses.
    scope: ASGI scope of the request, with its ID and dialect.
    started: the message that started the response; None if nothing has been sent.
    """

    handle: Any
    listener: ResponseListener
    request: ForwardedRequest
    scope: Scope
    send: Send
    started: Message | None = field(default=None, init=False)

    async def run(self, on_start: Callable[[], None]) -> None:
        """Forward the request, and retry if a replica dies before the response starts.

        on_start: called when the response starts.

        If the request fails, raises the error, or sends it as the last event of a stream that has started.
        """
        for replay in range(MAX_REPLAYS + 1):
            try:
                await self._attempt(on_start)
                return
            except Exception as error:
                if self.started is not None:
                    await self._end(translated(error))
                    return
                if replay == MAX_REPLAYS or not isinstance(error, LOST_REPLICA):
                    raise translated(error) from error
                logger.warning("The request is sent again, because its response did not arrive: %s", error)
                await asyncio.sleep(REPLAY_SECONDS * 2**replay)

    async def _attempt(self, on_start: Callable[[], None]) -> None:
        with self.listener.expect() as (address, connection):
            response = self.handle.remote(self.request, address)
            answered = asyncio.ensure_future(response)
            answered.add_done_callback(_retrieve)
            try:
                await asyncio.wait((answered, connection), return_when=asyncio.FIRST_COMPLETED)
                if not connection.done():
                    await answered  # raises the error of a request that no replica has begun to answer
                    await asyncio.wait((connection,), timeout=TICKET_SECONDS)
                if not connection.done():
                    raise BrokenResponseError("The replica has answered, but its connection has not arrived.")
                reader, writer = connection.result()
                answered.add_done_callback(partial(_abort_if_failed, writer))
                await self._pass_on(reader, on_start, answered)
                with contextlib.suppress(Exception):  # the client has the whole response
                    await answered
            finally:
                if not answered.done():
                    response.cancel()
                    answered.cancel()

    async def _pass_on(
        self, reader: asyncio.StreamReader, on_start: Callable[[], None], answered: Awaitable[None]
    ) -> None:
        """Send the messages of a response to the client.

        answered: Ray's result, which knows best why a connection has ended early.
        """
        try:
            async for message in messages(reader):
                if message["type"] == "http.response.start":
                    self.started = message
                    on_start()
                await self.send(message)
        except BrokenResponseError:
            await answered
            raise

    async def _end(self, error: Exception) -> None:
        """End a response that cannot be completed.

        A stream gets `error` as its last event. For any other response, raises `error`.
        """
        assert self.started is not None
        if not Headers(raw=self.started["headers"]).get("content-type", "").startswith("text/event-stream"):
            raise error
        request_id = self.scope["state"]["request_id"]
        event = dialect_of(self.scope).error_event(describe(error, request_id), request_id)
        await self.send({"type": "http.response.body", "body": event, "more_body": False})


def _retrieve(answered: asyncio.Future[None]) -> None:
    """Retrieve the exception, if any, so that asyncio does not log it."""
    if not answered.cancelled():
        answered.exception()


def _abort_if_failed(writer: asyncio.StreamWriter, answered: asyncio.Future[None]) -> None:
    """End the connection if Ray reports an error. A node that loses its power never closes it."""
    if answered.cancelled() or answered.exception() is not None:
        writer.transport.abort()
