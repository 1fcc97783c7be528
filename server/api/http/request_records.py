"""The request log, which reports each finished request to its listeners.

The log has an entry for each request from its arrival to the end of its response. It is independent of metrics, log
lines and traces: listeners get the `RequestRecord` of each finished request.
"""

from __future__ import annotations

import asyncio
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
"""Paths that machines poll every few seconds."""

PAGE_FILES = "/playground/"
"""Start of the paths of the playground's files. A browser loads dozens of them at a time."""


def is_unlogged(path: str) -> bool:
    """Return whether to leave requests for `path` out of logs, metrics and traces."""
    return path in PROBES or path.startswith(PAGE_FILES)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The record of a finished request.

    route: one of the application's paths, or "unknown".
    status: HTTP status of the response; 499 if the client left before the response was complete.
    finish: how the request ended. `error` if there is an `error_code`; `cancelled` if the client disconnected; `none`
        if the request started no completion; otherwise the end of the first choice: `stop`, `length` or `tool_calls`.
    error_code: code of the error sent to the client. A stream that fails after its start has a code and the status 200.
    received, ended: times on the monotonic clock, in seconds.
    key: name of the API key; None if the request has no valid key.
    prompt: the prompt or messages as the client sent them; None if the request started no completion.
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
    """The log's entry for a request that is being answered.

    error_code: code of the error sent to the client; the HTTP status if the error has no code.
    complete: whether the whole response has been sent.
    background: the work of this request that goes on after its response; None if there is none.
    """

    request_id: str
    method: str
    received: float = field(default_factory=time.monotonic)
    model: str | None = None
    prompt: Any = None
    completion: AnyCompletion | None = None
    error_code: str | None = None
    status: int | None = None
    complete: bool = False
    background: asyncio.Task[None] | None = None

    def when_done(self, action: Callable[[], None]) -> None:
        """Call `action` when the background work ends, or at once if there is none."""
        if self.background is None or self.background.done():
            action()
        else:
            self.background.add_done_callback(lambda _: action())

    async def observe(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app` for this request.

        Sets `status` and `complete` when the response is sent, and `error_code` after an unexpected exception.
        """

        async def send_observed(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.status = message["status"]
            self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await app(scope, receive, send_observed)
        except Exception:  # an unexpected error, to which the outermost error handler responds
            self.status, self.error_code = self.status or 500, "internal_error"
            raise

    def record(self, route: str, key: str | None) -> RequestRecord:
        """Return the record of this request, with the current time as its end."""
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
    """The requests being answered, and the listeners for finished ones.

    open: entries of the requests being answered.
    listeners: called with the record of each finished request. Listeners run on the event loop, in the request's
        context, and must neither wait nor raise.
    """

    def __init__(self) -> None:
        self.open: set[RequestLogEntry] = set()
        self.listeners: list[Callable[[RequestRecord], None]] = []

    def completions(self) -> list[AnyCompletion]:
        """Return the completions of all open entries."""
        return [entry.completion for entry in self.open if entry.completion is not None]


class RequestLogMiddleware:
    """Middleware that adds requests to the request log.

    Probes (`PROBES`) and requests for the playground's files are not added, but `request.state.log_entry` is set for
    them too. The middleware must be directly inside RequestId, so that it sees every response.
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
        if is_unlogged(scope["path"]):
            await entry.observe(self._app, scope, receive, send)
            return
        self._log.open.add(entry)
        try:
            await entry.observe(self._app, scope, receive, send)
        finally:
            entry.when_done(lambda: self._finish(entry, scope))

    def _finish(self, entry: RequestLogEntry, scope: Scope) -> None:
        self._log.open.remove(entry)
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        record = entry.record(route, scope["state"].get("key_name"))
        for listen in self._log.listeners:
            listen(record)


def log_entry(request: Request) -> RequestLogEntry:
    """Return the log entry of `request`."""
    entry: RequestLogEntry = request.state.log_entry
    return entry
