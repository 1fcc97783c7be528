"""Errors, keep-alive events and headers of Anthropic's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import TypedDict

from server.api.access.quota import Quota
from server.api.http.api_error import ApiError
from server.api.http.sse import SEPARATOR, named_event

VERSION = "anthropic-version"
OVERLOADED = 529  # Anthropic's status for a full queue

PROXY = "x-lfm-proxy"
"""Request header of a proxy that retries requests. The only value is "nginx"."""

TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class AnthropicErrorObject(TypedDict):
    """An error."""

    type: Annotated[str, Field(description="Anthropic's error type.", examples=["invalid_request_error"])]
    message: Annotated[str, Field(description="Description of the error.", examples=["`max_tokens` is required."])]


class AnthropicErrorBody(TypedDict):
    """The body of an error response, or the event `error` that ends a stream."""

    type: Literal["error"]
    error: AnthropicErrorObject
    request_id: Annotated[str, Field(description="ID of the request.", examples=["req_0f3a"])]


class AnthropicDialect:
    """Anthropic's dialect."""

    ping = ServerSentEvent('{"type":"ping"}', event="ping", sep=SEPARATOR)
    id_headers = ("x-request-id", "request-id")

    def adapted(self, error: ApiError, request: Request) -> ApiError:
        """Return `error`, with Anthropic's status 529 if the queue is full.

        nginx cannot retry after a 529, so it gets a 403 and tries another replica. If all replicas are full, the header
        X-Accel-Redirect makes nginx answer 529.
        """
        if (error.status, error.code) != (429, "overloaded"):
            return error
        if request.headers.get(PROXY) == "nginx":
            return replace(error, status=403, headers={**error.headers, "X-Accel-Redirect": "@overloaded"})
        return replace(error, status=OVERLOADED)

    def error_body(self, error: ApiError, request_id: str) -> AnthropicErrorBody:
        """Return the body of an error response."""
        kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        kind = "overloaded_error" if error.code == "overloaded" else kind
        return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}

    def error_event(self, error: ApiError, request_id: str) -> bytes:
        """Return the event `error`, the last event of a stream that fails."""
        return named_event(self.error_body(error, request_id))

    def quota_headers(self, quota: Quota) -> Mapping[str, str]:
        """Return headers such as `anthropic-ratelimit-tokens-limit`."""
        reset = datetime.now(UTC) + timedelta(seconds=quota.reset)
        values: dict[str, Any] = {"limit": quota.limit, "remaining": quota.remaining, "reset": rfc3339(reset)}
        return {f"anthropic-ratelimit-{quota.kind}-{name}": str(value) for name, value in values.items()}


class ChooseAnthropic:
    """Middleware that sets Anthropic's dialect for Anthropic's clients.

    Their requests are for /v1/messages, or for /v1/models with the header `anthropic-version`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_anthropics(scope):
            scope["state"]["dialect"] = DIALECT
        await self._app(scope, receive, send)


DIALECT = AnthropicDialect()


def rfc3339(time: datetime) -> str:
    """Return a UTC time as text, such as 2026-01-01T00:00:00Z (RFC 3339)."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _is_anthropics(scope: Scope) -> bool:
    path: str = scope["path"]
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return True
    return (path == "/v1/models" or path.startswith("/v1/models/")) and VERSION in Headers(scope=scope)
