"""The request log, which reports each finished request to listeners.

The listeners update metrics, write log lines and create traces.
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
"""Path prefix of the playground's files, which browsers load by the dozen."""


def is_unlogged(path: str) -> bool:
    """Return whether logs, metrics and traces leave out requests for `path`."""
    return path in PROBES or path.startswith(PAGE_FILES)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A finished request.

    route: path of the route, such as "/v1/responses/{response_id}"; "unknown" if no route matches.
    status: HTTP status; 499 if the client left before the response was complete.
    finish: "stop", "length", "tool_calls", "error" or "cancelled"; "none" for a success without a completion.
    error_code: code of the error sent; None without an error. A failed stream has a code although its status is 200.
    received, ended: monotonic times in seconds.
    key: name of the client's API key; None without a valid key.
    prompt: the prompt or messages as sent; None without a completion.
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
    """The log's entry for a request being answered.

    error_code: code of the error sent, or its HTTP status if it has no code.
    background: work that may outlive the response; None if there is none.
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
        """Call `action` after the background work, or at once if none is running."""
        if self.background is None or self.background.done():
            action()
        else:
            self.background.add_done_callback(lambda _: action())

    async def observe(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app` for this request, and note how the response ends."""

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
        """Return the record of this request, which ends now."""
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
    """Requests being answered, and the listeners for finished ones.

    open: entries of the requests being answered.
    listeners: called on the event loop for each finished request; must not block or raise.
    """

    def __init__(self) -> None:
        self.open: set[RequestLogEntry] = set()
        self.listeners: list[Callable[[RequestRecord], None]] = []

    def completions(self) -> list[AnyCompletion]:
        """Return the completions being generated."""
        return [entry.completion for entry in self.open if entry.completion is not None]


class RequestLogMiddleware:
    """Middleware that adds requests to the request log.

    Requests for unlogged paths, such as /health, also get an entry, but no listener sees it. The middleware must be
    directly inside RequestId, to see every response.
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
