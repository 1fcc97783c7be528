"""Gives each request an ID: the client's `x-request-id` if valid, else a new one."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.http.dialect import dialect_of

HEADER = "x-request-id"
current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""ID of the request that the current task serves; None if it serves none."""

VALID_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


class RequestId:
    """Middleware that sets `request.state.request_id` and the response's ID headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "")
        request_id = sent if VALID_ID.fullmatch(sent) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        current_request_id.set(request_id)  # never reset: each request has its own task and context

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in dialect_of(scope).id_headers:
                    headers[name] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
