"""How a protocol writes errors, keep-alive events and headers.

The default is OpenAI's dialect. `ChooseAnthropic` sets Anthropic's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import Request
from sse_starlette import ServerSentEvent
from starlette.types import Scope

from server.api.access.quota import Quota
from server.api.http.api_error import ApiError
from server.api.http.sse import PING_COMMENT, data_event


class Dialect(Protocol):
    """How a protocol writes errors, keep-alive events and headers."""

    @property
    def ping(self) -> ServerSentEvent:
        """The keep-alive event of streams."""

    @property
    def id_headers(self) -> tuple[str, ...]:
        """Names of the response headers that contain the request's ID."""

    def adapted(self, error: ApiError, request: Request) -> ApiError:
        """Return `error` with the protocol's status and headers."""

    def error_body(self, error: ApiError, request_id: str) -> Mapping[str, Any]:
        """Return the body of an error response."""

    def error_event(self, error: ApiError, request_id: str) -> bytes:
        """Return the last event of a stream that fails."""

    def quota_headers(self, quota: Quota) -> Mapping[str, str]:
        """Return the rate limit headers for `quota`."""


class OpenAIDialect:
    """OpenAI's dialect."""

    ping = PING_COMMENT
    id_headers = ("x-request-id",)

    def adapted(self, error: ApiError, request: Request) -> ApiError:
        """Return `error` unchanged, because it already has OpenAI's status."""
        return error

    def error_body(self, error: ApiError, request_id: str) -> Mapping[str, Any]:
        """Return the body of an error response, without the request's ID."""
        return error.body

    def error_event(self, error: ApiError, request_id: str) -> bytes:
        """Return the last event of a stream that fails."""
        return data_event(error.body)

    def quota_headers(self, quota: Quota) -> Mapping[str, str]:
        """Return headers such as `x-ratelimit-limit-tokens`."""
        return {
            f"x-ratelimit-limit-{quota.kind}": str(quota.limit),
            f"x-ratelimit-remaining-{quota.kind}": str(quota.remaining),
            f"x-ratelimit-reset-{quota.kind}": f"{quota.reset:.3f}s",
        }


OPENAI: Dialect = OpenAIDialect()


def dialect_of(scope: Scope) -> Dialect:
    """Return the dialect of a request."""
    dialect: Dialect = scope["state"].get("dialect", OPENAI)
    return dialect
