"""Exception handlers that respond in the dialect of the request."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from server.api.http.api_error import ApiError, describe
from server.api.http.dialect import dialect_of
from server.api.http.request_records import CLIENT_CLOSED_REQUEST, log_entry
from server.errors import InvalidRequestError, LfmServeError, shown


def noted(error: Exception, request: Request) -> ApiError:
    """Return the error response to `error`, and log the error's code."""
    api_error = describe(error, request.state.request_id)
    log_entry(request).error_code = api_error.label
    return api_error


def respond(error: Exception, request: Request) -> JSONResponse:
    """Return the HTTP response to `error`, and log the error's code."""
    return error_response(noted(error, request), request)


def last_event(error: Exception, request: Request) -> bytes:
    """Return the last event of a stream that failed, and log the error's code."""
    return dialect_of(request.scope).error_event(noted(error, request), request.state.request_id)


def install(app: FastAPI) -> None:
    """Add handlers to `app` for exceptions, unknown paths and disallowed methods."""
    app.add_exception_handler(LfmServeError, _answer)
    app.add_exception_handler(ValidationError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_parameter)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    return respond(error, request)


async def _answer_parameter(request: Request, error: Exception) -> Response:
    """Answer a request with an invalid parameter in its URL."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    message = f"Invalid value for `{param}`: {shown(repr(first['input']))}. {first['msg']}."
    return respond(InvalidRequestError(message, param), request)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope["path"]  # in request.url, the path //a/b would be /b
    if error.status_code == 404:
        api_error = ApiError(404, f"Unknown URL: {method} {path}. See /docs.", "invalid_request_error", "unknown_url")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "nothing")
        message = f"{method} is not allowed for {path}; allowed: {allowed}."
        api_error = ApiError(405, message, "invalid_request_error", "method_not_allowed", headers=error.headers or {})
    else:
        message, headers = str(error.detail), error.headers or {}
        api_error = ApiError(error.status_code, message, "invalid_request_error", headers=headers)
    log_entry(request).error_code = api_error.label
    return error_response(api_error, request)


def error_response(api_error: ApiError, request: Request) -> JSONResponse:
    """Return the HTTP response for `api_error` in the dialect of `request`."""
    dialect, request_id = dialect_of(request.scope), request.state.request_id
    adapted = dialect.adapted(api_error, request)
    headers = {**adapted.headers, **dict.fromkeys(dialect.id_headers, request_id)}
    return JSONResponse(dialect.error_body(adapted, request_id), adapted.status, headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
