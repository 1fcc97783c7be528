"""A request and its response, on the routes that use the model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import Response

from server.api.access.rate_limit import RateLimit
from server.api.generation.fields import GenerationFields
from server.api.http.api_error import ApiError
from server.api.http.dialect import dialect_of
from server.api.http.disconnect import unless_disconnected
from server.api.http.errors import last_event, noted
from server.api.http.request_body import read_json
from server.api.http.request_records import log_entry
from server.api.http.sse import Events, event_stream
from server.api.server_state import Server, ServerState
from server.chat.completion import AnyCompletion
from server.engine.types import RequestContext
from server.errors import InvalidRequestError, ModelNotReadyError, RequestTimeoutError

TIMEOUT_HEADER = "X-Request-Timeout"

T = TypeVar("T")
C = TypeVar("C", bound=AnyCompletion)


class Exchange:
    """One request, from its admission to the end of its response or background work.

    Routes open it with the dependency `OpenExchange`.
    """

    def __init__(self, request: Request, server: ServerState) -> None:
        """Admit the request.

        Raises RateLimitError if the API key has reached a limit.
        Raises InvalidRequestError if the header X-Request-Timeout is not a positive number.
        """
        self._request = request
        self._server = server
        self._log_entry = log_entry(request)
        self._rate_limit: RateLimit | None = request.state.rate_limit
        self._timeout = request_timeout(request, server.limits.request_timeout)
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._charged_tokens = 0
        if self._rate_limit is not None:
            self._rate_limit.begin()

    def context(self, body: GenerationFields) -> RequestContext:
        """Return the request context for the chat service and the engine."""
        state = self._request.state
        return RequestContext(
            id=self._log_entry.request_id,
            tenant=state.tenant,
            priority=body.priority or 0,
            cache_salt=cache_salt(state.key_name, body.cache_salt),
            deadline=self._opened + self._timeout,
        )

    async def read(self, parse: Callable[[Any], T]) -> T:
        """Return `parse(body)` for the decoded JSON body.

        Raises the errors of `read_json` and `parse`.
        """
        return await read_json(self._request, self._server, parse)

    async def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which is cancelled if the request ends first.

        Raises RequestTimeoutError at the deadline, and ClientDisconnect if the client disconnects.
        """
        try:
            async with asyncio.timeout_at(self._opened + self._timeout):
                return await unless_disconnected(self._request, work)
        except TimeoutError:
            raise RequestTimeoutError(self._timeout) from None

    async def start(self, completion: Coroutine[Any, Any, C], model: str, prompt: Any) -> C:
        """Start a completion and return it.

        The completion fails if it exceeds a time limit or the server stops.

        model: name of the served model, for the log.
        prompt: the prompt or messages as sent, for the log.

        Raises the errors of `completion` and `wait_for`.
        """
        started = await self.wait_for(completion)
        self._log_entry.model, self._log_entry.prompt, self._log_entry.completion = model, prompt, started
        self._call_after(self._timeout, started.fail, RequestTimeoutError(self._timeout))
        if self._server.limits.max_queue_time < self._timeout:
            self._call_after(self._server.limits.max_queue_time, self._end_waiting, started)
        if self._rate_limit is not None:
            self._rate_limit.spend(started.prompt_tokens)
        return started

    async def respond(self, response: Coroutine[Any, Any, Response]) -> Response:
        """Return a response that is not streamed.

        Raises ClientDisconnect if the client disconnects.
        """
        answer = await unless_disconnected(self._request, response)
        self._charge()  # before RateLimitHeaders reports the tokens left
        return answer

    async def stream(self, events: Events) -> Response:
        """Return a response that streams `events`.

        Waits up to one ping interval for the first event. An error during this wait is raised. A later error becomes
        the last event.

        Raises ClientDisconnect if the client disconnects while waiting.
        """
        seconds, ping = self._server.limits.sse_ping, dialect_of(self._request.scope).ping
        response = event_stream(events, ping_seconds=seconds, ping=ping, last_event=self._last_event)
        return await unless_disconnected(self._request, response)

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`, which may outlive the response.

        The exchange stays open until `work` ends.
        """
        self._log_entry.background = asyncio.create_task(work)

    def describe(self, error: Exception) -> ApiError:
        """Return the error response to `error`, and log the error's code."""
        return noted(error, self._request)

    def close(self) -> None:
        """Cancel the timers and the completion, and charge the tokens not yet charged.

        If background work is still running, all of this happens when that work ends.
        """
        self._log_entry.when_done(self._close)

    def _close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._log_entry.completion is not None:
            self._log_entry.completion.cancel()
        if self._rate_limit is not None:
            self._rate_limit.end()
            self._charge(unread=True)

    def _charge(self, unread: bool = False) -> None:
        """Charge the key for tokens generated since the last charge.

        unread: whether to include generated tokens that the response does not contain.
        """
        completion = self._log_entry.completion
        if self._rate_limit is not None and completion is not None:
            tokens = completion.generated_tokens if unread else completion.completion_tokens
            self._rate_limit.spend(tokens - self._charged_tokens)
            self._charged_tokens = tokens

    def _last_event(self, error: Exception) -> bytes:
        return last_event(error, self._request)

    def _call_after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` when the exchange is `seconds` old, unless it closes first."""
        self._timers.append(self._loop.call_at(self._opened + seconds, action, *arguments))

    def _end_waiting(self, completion: AnyCompletion) -> None:
        if completion.started is None:
            limit = self._server.limits.max_queue_time
            message = (
                f"The server is overloaded: the request has waited {limit:g} seconds in the queue, which is the "
                "maximum (--max-queue-time)."
            )
            completion.fail(ModelNotReadyError(message, "overloaded", self._server.retry_after()))


def cache_salt(key_name: str | None, salt: str | None) -> str:
    """Return the cache salt of a request.

    key_name: name of the client's API key; None if the server has no keys.
    salt: the request field `cache_salt`; None if it is not set.
    """
    return (salt or "") if key_name is None else f"{key_name}\0{salt or ''}"


def request_timeout(request: Request, server_limit: float) -> float:
    """Return the request's time limit in seconds.

    The header X-Request-Timeout may lower the server's limit.

    Raises InvalidRequestError if the header is not a positive number.
    """
    sent = request.headers.get(TIMEOUT_HEADER)
    if sent is None:
        return server_limit
    try:
        seconds = float(sent)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        message = f"The header {TIMEOUT_HEADER} must be a number of seconds greater than 0; got {sent[:40]!r}."
        raise InvalidRequestError(message, TIMEOUT_HEADER)
    return min(seconds, server_limit)


async def _open(request: Request, server: Server) -> AsyncIterator[Exchange]:
    exchange = Exchange(request, server)
    try:
        yield exchange
    finally:
        exchange.close()


OpenExchange = Annotated[Exchange, Depends(_open)]
"""Route dependency that opens an exchange and closes it after the response."""
