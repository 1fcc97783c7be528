"""Each request from its arrival to its response's end: what is found out on the way, and who is told of it then.

Knows no metrics, logs or traces: whoever listens gets a `RequestRecord` once a response is over, in whatever way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.chat.completion import Answers

CLIENT_CLOSED_REQUEST = 499  # nginx's code for it; nobody is left to read it
UNKNOWN_ROUTE = "unknown"
PROBES = frozenset(("/health", "/ready", "/metrics"))
"""Asked every few seconds by machines: nobody is told of these."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request whose response is over. Times are of the monotonic clock, in seconds.

    `route` is a path of the application's, or "unknown". `status` is what was sent, 499 where the client had left by
    then. `finish` is the first choice's `stop`, `length` or `tool_calls`; `error` with an `error_code`, which may have
    come after a status of 200; `cancelled` where the client left; `none` where nothing was to be generated. `key`
    names the API key. `prompt` is what the client sent to be answered, None where it did not come to `answers`.
    """

    request_id: str
    method: str
    route: str
    status: int
    finish: str
    error_code: str | None
    received: float
    ended: float
    key: str | None
    model: str | None
    prompt: Any
    answers: Answers | None


@dataclass(slots=True, eq=False)
class Exchange:
    """A request that is being answered. Its route notes what it finds out; `error_code` is what the client was told."""

    request_id: str
    method: str
    received: float = field(default_factory=time.monotonic)
    model: str | None = None
    prompt: Any = None
    answers: Answers | None = None
    error_code: str | None = None
    status: int | None = None
    complete: bool = False

    def begin(self, model: str, prompt: Any, answers: Answers) -> None:
        """`answers` to `prompt` are on their way."""
        self.model, self.prompt, self.answers = model, prompt, answers

    async def watch(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app` for this request and note how its response begins and ends."""

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            await send(message)
            self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await app(scope, receive, send_noted)
        except Exception:  # the unforeseen: answered further out
            self.status, self.error_code = self.status or 500, "internal_error"
            raise

    def record(self, route: str, key: str | None) -> RequestRecord:
        """What is known at the end, which is now."""
        finish = self._finish()
        return RequestRecord(
            request_id=self.request_id,
            method=self.method,
            route=route,
            status=CLIENT_CLOSED_REQUEST if finish == "cancelled" else self.status or 0,
            finish=finish,
            error_code=self.error_code,
            received=self.received,
            ended=time.monotonic(),
            key=key,
            model=self.model,
            prompt=self.prompt,
            answers=self.answers,
        )

    def _finish(self) -> str:
        if self.error_code is not None:
            return "error"
        if not self.complete or self.status == CLIENT_CLOSED_REQUEST:
            return "cancelled"
        return "none" if self.answers is None else str(self.answers.ends.get(0, "cancelled"))


class Journal:
    """The requests that are being answered, `open`, and the `listeners` that are told of each that is over.

    Listeners are called on the event loop, in the request's context, and must not wait or raise.
    """

    def __init__(self) -> None:
        self.open: set[Exchange] = set()
        self.listeners: list[Callable[[RequestRecord], None]] = []


class Journaled:
    """Middleware: enters each request but probes into `journal`; `request.state.exchange` is for its route to note in.

    Goes right inside of RequestId, so that nothing that answers is further out.
    """

    def __init__(self, app: ASGIApp, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        exchange = state["exchange"] = Exchange(state["request_id"], scope["method"])
        if scope["path"] in PROBES:
            await exchange.watch(self._app, scope, receive, send)
            return
        self._journal.open.add(exchange)
        try:
            await exchange.watch(self._app, scope, receive, send)
        finally:
            self._journal.open.remove(exchange)
            record = exchange.record(getattr(scope.get("route"), "path", UNKNOWN_ROUTE), state.get("key_name"))
            for listen in self._journal.listeners:
                listen(record)


def exchange_of(request: Request) -> Exchange:
    """Where `request`'s route notes what it finds out."""
    exchange: Exchange = request.state.exchange
    return exchange
