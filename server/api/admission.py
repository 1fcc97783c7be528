"""What a request gets when it is let in: a ticket that says whose it is and until when, and holds it to the limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from server.api.quota import Quota
from server.api.state import Limits, Server, ServerState
from server.chat.answers import Answers
from server.chat.text_service import TextRequest
from server.chat.types import ChatRequest
from server.errors import InvalidRequestError, LfmServeError, ModelNotReadyError, RequestTimeoutError

TIMEOUT_HEADER = "x-request-timeout"

R = TypeVar("R", ChatRequest, TextRequest)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. Tenants with keys share no cached prefixes."""

    tenant: str
    quota: Quota | None
    has_key: bool


class Ticket:
    """One request's way through the server. `close` it when its answer has been sent."""

    def __init__(self, server: ServerState, caller: Caller, timeout: float) -> None:
        """Raises RateLimitError where the caller has no right to one more. `timeout` is in seconds, from now on."""
        if caller.quota is not None:
            caller.quota.begin()
        self._server = server
        self._caller = caller
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._answer: Answers | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def admit(self, request: R) -> R:
        """The request within the server's limits, in its caller's name. Raises InvalidRequestError."""
        limits, caller = self._server.limits, self._caller
        if request.n > limits.max_n:
            raise InvalidRequestError(f"n is at most {limits.max_n} on this server (--max-n); got {request.n}.", "n")
        salt = f"{caller.tenant}\0{request.cache_salt}" if caller.has_key else request.cache_salt
        admitted = replace(request, tenant=caller.tenant, cache_salt=salt)
        if (most := limits.max_output_tokens) is None:
            return admitted
        asked = request.max_tokens
        return replace(admitted, max_tokens=most if asked is None else min(asked, most))

    def watch(self, answer: Answers) -> None:
        """Hold what generates the answer to its time, and end it with the server."""
        self._answer = answer
        self._server.running.add(answer)
        limits = self._server.limits
        self._at(self._timeout, RequestTimeoutError(self._timeout))
        if limits.max_queue_time < self._timeout:
            self._timers.append(self._loop.call_at(self._began + limits.max_queue_time, self._end_waiting, answer))
        if self._caller.quota is not None:
            self._caller.quota.spend(answer.prompt_tokens)

    def close(self) -> None:
        """The request is over, however it ended."""
        for timer in self._timers:
            timer.cancel()
        if self._answer is not None:
            self._server.running.discard(self._answer)
        if self._caller.quota is not None:
            self._caller.quota.end()
            self._caller.quota.spend(self._answer.completion_tokens if self._answer else 0)

    def _at(self, seconds: float, error: LfmServeError) -> None:
        assert self._answer is not None
        self._timers.append(self._loop.call_at(self._began + seconds, self._answer.fail, error))

    def _end_waiting(self, answer: Answers) -> None:
        if answer.started is None:
            limit = self._server.limits.max_queue_time
            message = f"The server is overloaded: the request has waited {limit:g} seconds (--max-queue-time)."
            answer.fail(
                ModelNotReadyError(message, "overloaded", self._server.ready_model().service.engine.retry_after())
            )


async def _ticket(request: Request, server: Server) -> AsyncIterator[Ticket]:
    state = request.state
    caller = Caller(state.tenant, state.quota, state.key_name is not None)
    ticket = Ticket(server, caller, _timeout(request, server.limits))
    try:
        yield ticket
    finally:
        ticket.close()


def _timeout(request: Request, limits: Limits) -> float:
    """The server's limit of seconds, or the client's own where it is lower."""
    sent = request.headers.get(TIMEOUT_HEADER)
    if sent is None:
        return limits.request_timeout
    try:
        seconds = float(sent)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        message = f"The header X-Request-Timeout must be a number of seconds above 0; got {sent[:40]!r}."
        raise InvalidRequestError(message, "X-Request-Timeout")
    return min(seconds, limits.request_timeout)


Admitted = Annotated[Ticket, Depends(_ticket)]
