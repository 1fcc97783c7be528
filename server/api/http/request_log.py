"""The request log: an entry for each request, from its arrival to the end of its response.

Listeners get a `RequestRecord` of each request once its response has ended. Knows no metrics, log lines or traces.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.chat.completion import AnyCompletion

CLIENT_CLOSED_REQUEST = 499  # nginx's code for a client that left before its response was whole
UNKNOWN_ROUTE = "unknown"
PROBES = frozenset(("/health", "/ready", "/metrics"))
"""Paths that machines poll every few seconds; the log skips them."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request whose response has ended.

    route: one of the application's paths, or "unknown".
    status: the status that was sent, or 499 if the client had left before the end.
    finish: the first choice's `stop`, `length` or `tool_calls`; `error` if there is an `error_code`, even after a
        status of 200; `cancelled` if the client left; `none` if the request generates nothing.
    received, ended: monotonic clock, seconds.
    key: the name of the API key.
    prompt: the client's messages or prompt; None if no `completion` started.
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
    completion: AnyCompletion | None


@dataclass(slots=True, eq=False)
class RequestLogEntry:
    """A request that is being answered; `error_code` is the code or status of the error sent to the client."""

    request_id: str
    method: str
    received: float = field(default_factory=time.monotonic)
    model: str | None = None
    prompt: Any = None
    completion: AnyCompletion | None = None
    error_code: str | None = None
    status: int | None = None
    complete: bool = False

    async def observe(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app` for this request and note how its response starts and ends."""

        async def send_observed(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.status = message["status"]
            self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await app(scope, receive, send_observed)
        except Exception:  # unforeseen: the outermost error handler answers it
            self.status, self.error_code = self.status or 500, "internal_error"
            raise

    def record(self, route: str, key: str | None) -> RequestRecord:
        """Return the record of a request that ends now."""
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
            completion=self.completion,
        )

    def _finish(self) -> str:
        if self.error_code is not None:
            return "error"
        if not self.complete or self.status == CLIENT_CLOSED_REQUEST:
            return "cancelled"
        return "none" if self.completion is None else str(self.completion.ends.get(0, "cancelled"))


class RequestLog:
    """The `open` entries, and the `listeners` to call with each request's record.

    Listeners run on the event loop, in the request's context, and must neither wait nor raise.
    """

    def __init__(self) -> None:
        self.open: set[RequestLogEntry] = set()
        self.listeners: list[Callable[[RequestRecord], None]] = []

    def completions(self) -> list[AnyCompletion]:
        """Return the completions of all open entries."""
        return [entry.completion for entry in self.open if entry.completion is not None]


class RequestLogMiddleware:
    """Middleware: enters each request except probes into `log`, as `request.state.log_entry`.

    Must be directly inside RequestId, so that it sees every answer.
    """

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        entry = state["log_entry"] = RequestLogEntry(state["request_id"], scope["method"])
        if scope["path"] in PROBES:
            await entry.observe(self._app, scope, receive, send)
            return
        self._log.open.add(entry)
        try:
            await entry.observe(self._app, scope, receive, send)
        finally:
            self._log.open.remove(entry)
            record = entry.record(getattr(scope.get("route"), "path", UNKNOWN_ROUTE), state.get("key_name"))
            for listen in self._log.listeners:
                listen(record)


def log_entry(request: Request) -> RequestLogEntry:
    """Return the entry of `request`."""
    entry: RequestLogEntry = request.state.log_entry
    return entry
