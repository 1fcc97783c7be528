"""Reads JSON request bodies of limited size within a limited time.

The Content-Type header is ignored.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any, TypeVar

import pydantic_core
from fastapi import Request

from server.api.server_state import Limits, ServerState
from server.errors import ContentEncodingError, InvalidRequestError, RequestTooLargeError, SlowClientError

T = TypeVar("T")

LARGE = 64 * 2**10  # bytes; larger bodies take over a millisecond to parse and are parsed on a thread
MAX_ITEMS = {"messages": 5_000, "input": 5_000, "tools": 1_000, "functions": 1_000, "stop_token_ids": 10_000}
"""Maximum length of each list field, checked before the items are validated."""


async def read_json(request: Request, server: ServerState, parse: Callable[[Any], T]) -> T:
    """Return `parse(body)` for the decoded JSON body of a request.

    Raises ContentEncodingError if the body is compressed.
    Raises RequestTooLargeError if the body is too large.
    Raises SlowClientError if the body takes too long to arrive.
    Raises InvalidRequestError if the body is not JSON or a list in it is too long.
    """
    encoding = ",".join(request.headers.getlist("content-encoding"))
    if encoding.strip().lower() not in ("", "identity"):
        raise ContentEncodingError(encoding)
    body = await read_body(request, server.limits)
    if len(body) < LARGE:
        return _parsed(body, parse)
    return await server.parsing.run(request.state.tenant, lambda: _parsed(body, parse))


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request.

    Raises RequestTooLargeError if it is too large, and SlowClientError if it takes too long to arrive.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > limits.max_body):
        raise RequestTooLargeError(limits.max_body)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_timeout):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.max_body:
                    raise RequestTooLargeError(limits.max_body)
    except TimeoutError:
        raise SlowClientError(limits.read_timeout) from None
    return bytes(body)


def _parsed(body: bytes, parse: Callable[[Any], T]) -> T:
    try:
        value = pydantic_core.from_json(body.removeprefix(BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"The request's body is not valid JSON: {error}.", code="invalid_json") from None
    if isinstance(value, dict):
        for name, most in MAX_ITEMS.items():
            if isinstance(value.get(name), list) and (count := len(value[name])) > most:
                raise InvalidRequestError(f"{name} may have at most {most:,} items; got {count:,}.", name)
    return parse(value)
