"""Converts exceptions to responses and stream events in OpenAI's error format."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

from server.api.http.request_id import HEADER as REQUEST_ID
from server.api.http.request_records import CLIENT_CLOSED_REQUEST, log_entry
from server.api.http.sse import data_event
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
    """The body of every error response, and the last event of every failed stream."""

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
        """The error code, or the HTTP status if the error has no code."""
        return self.code or str(self.status)

    @property
    def body(self) -> ErrorBody:
        """The response body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def describe(error: Exception, request_id: str) -> ApiError:
    """Return the response to `error`. Logs internal errors."""
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


def noted(error: Exception, request: Request) -> ApiError:
    """Return the response to `error`, and note its code in the request log."""
    api_error = describe(error, request.state.request_id)
    log_entry(request).error_code = api_error.label
    return api_error


def respond(error: Exception, request: Request) -> JSONResponse:
    """Return the HTTP response for `error`, and note the error's code in the request log."""
    api_error = noted(error, request)
    headers = {**api_error.headers, REQUEST_ID: request.state.request_id}
    return JSONResponse(api_error.body, api_error.status, headers)


def last_event(error: Exception, request: Request) -> bytes:
    """Return the last event of a stream that failed with `error`, and note its code in the request log."""
    return data_event(noted(error, request).body)


def install(app: FastAPI) -> None:
    """Add exception handlers to `app` that answer every error with an ErrorBody.

    They also handle unknown paths, methods that are not allowed and unexpected exceptions.
    """
    app.add_exception_handler(LfmServeError, _answer)
    app.add_exception_handler(ValidationError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_parameter)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    return respond(error, request)


async def _answer_parameter(request: Request, error: Exception) -> Response:
    """Answer an invalid parameter in the URL."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    message = f"Invalid value for `{param}`: {shown(repr(first['input']))}. {first['msg']}."
    return respond(InvalidRequestError(message, param), request)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == 404:
        api_error = ApiError(404, f"Unknown URL: {method} {path}. See /docs.", "invalid_request_error", "unknown_url")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "nothing")
        message = f"{method} is not allowed for {path}; allowed: {allowed}."
        api_error = ApiError(405, message, "invalid_request_error", "method_not_allowed")
    else:
        api_error = ApiError(error.status_code, str(error.detail), "invalid_request_error")
    log_entry(request).error_code = api_error.label
    headers = {**(error.headers or {}), REQUEST_ID: request.state.request_id}
    return JSONResponse(api_error.body, api_error.status, headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}


def _invalid_field(error: ValidationError) -> InvalidRequestError:
    """Convert the first error in a ValidationError to an InvalidRequestError."""
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
    """Return `location` as a path.

    Example: ("messages", 2, "content") becomes `messages[2].content`.
    """
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in location)
    return path.removeprefix(".")
