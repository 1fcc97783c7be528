"""Converts exceptions to error responses."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, ValidationError
from typing_extensions import TypedDict

from server.api.http.base_model import union_tag
from server.errors import (
    ContentEncodingError,
    InvalidApiKeyError,
    InvalidRequestError,
    LfmServeError,
    ModelNotFoundError,
    ModelNotReadyError,
    NotStoredError,
    QueueFullError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    SlowClientError,
    shown,
)

logger = logging.getLogger(__name__)

MAX_SHOWN_INPUT = 60  # characters of an invalid value quoted in its error
UNION_TAG = re.compile(union_tag(r"\w+"))


class ErrorObject(TypedDict):
    """An error."""

    message: Annotated[str, Field(description="Description of the error.", examples=["`messages` is required."])]
    type: Annotated[str, Field(description="OpenAI's error type.", examples=["invalid_request_error"])]
    param: Annotated[
        str | None, Field(description="The field that caused the error.", examples=["messages[0].content"])
    ]
    code: Annotated[
        str | None, Field(description="Machine-readable error code.", examples=["missing_required_parameter"])
    ]


class ErrorBody(TypedDict):
    """The body of an error response, or the last event of a failed stream."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error response."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Error code, or the HTTP status if there is no code."""
        return self.code or str(self.status)

    @property
    def body(self) -> ErrorBody:
        """The response body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def describe(error: Exception, request_id: str) -> ApiError:
    """Return the response to `error`, and log internal errors."""
    message = str(error)
    match error:
        case InvalidRequestError():
            return ApiError(400, message, "invalid_request_error", error.code, error.param)
        case ValidationError():
            return describe(_invalid_field(error), request_id)
        case InvalidApiKeyError():
            headers = {"WWW-Authenticate": "Bearer"}
            return ApiError(401, message, "authentication_error", "invalid_api_key", headers=headers)
        case ModelNotFoundError():
            return ApiError(404, message, "invalid_request_error", "model_not_found", "model")
        case NotStoredError():
            return ApiError(404, message, "invalid_request_error", error.code, error.param)
        case RequestTooLargeError():
            return ApiError(413, message, "invalid_request_error", "request_too_large")
        case ContentEncodingError():
            headers = {"Accept-Encoding": "identity"}
            return ApiError(415, message, "invalid_request_error", "unsupported_encoding", headers=headers)
        case SlowClientError():
            headers = {"Connection": "close"}
            return ApiError(408, message, "invalid_request_error", "request_too_slow", headers=headers)
        case RequestTimeoutError():
            headers = {"x-should-retry": "false"}  # a retry would take just as long
            return ApiError(504, message, "timeout_error", "request_timeout", headers=headers)
        case RateLimitError():
            headers = _retry(error.retry_after)
            return ApiError(429, message, "rate_limit_error", "rate_limit_exceeded", headers=headers)
        case QueueFullError():
            return ApiError(429, message, "rate_limit_error", "overloaded", headers=_retry(error.retry_after))
        case ModelNotReadyError():
            return ApiError(503, message, "server_error", error.code, headers=_retry(error.retry_after))
        case LfmServeError():
            logger.error("Request %s failed: %s", request_id, message)
            return ApiError(500, message, "server_error", "internal_error")
    logger.error("Request %s failed.", request_id, exc_info=error)
    message = f"Internal error. The details of request {request_id} are in the server's log."
    return ApiError(500, message, "server_error", "internal_error")


def _retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def _invalid_field(error: ValidationError) -> InvalidRequestError:
    """Convert a ValidationError's first error to an InvalidRequestError."""
    first = error.errors(include_url=False)[0]
    details = first.get("ctx", {})
    param = _path(first["loc"]) + details.get("field", "")
    if first["type"] == "missing":
        return InvalidRequestError(f"`{param}` is required.", param, "missing_required_parameter")
    if "field" in details:
        return InvalidRequestError(first["msg"], param.removeprefix("."), first["type"])
    shown = repr(first["input"])
    shown = shown if len(shown) <= MAX_SHOWN_INPUT else shown[: MAX_SHOWN_INPUT - 3] + "..."
    code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    if not param:
        return InvalidRequestError(f"The request's body must be a JSON object; got {shown}.", None, code)
    return InvalidRequestError(f"Invalid value for `{param}`: {shown}. {first['msg']}.", param, code)


def _path(location: tuple[int | str, ...]) -> str:
    """Return a Pydantic error location as a path, without union tags.

    Example: ("messages", 2, "content", 0, "<text>", "text") -> `messages[2].content[0].text`.
    """
    steps = [step for step in location if isinstance(step, int) or not UNION_TAG.fullmatch(step)]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in steps)
    return path.removeprefix(".")
