"""Reading a request's body: JSON of a bounded size, whatever its content type says."""

from __future__ import annotations

from typing import Any

import pydantic_core
from fastapi import Request

from server.errors import InvalidRequestError, RequestTooLargeError

MAX_BODY = 2 * 2**20  # bytes


async def read_json(request: Request) -> Any:
    """The body's value. Raises RequestTooLargeError, or InvalidRequestError for what is not JSON."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise RequestTooLargeError(MAX_BODY)
    try:
        return pydantic_core.from_json(bytes(body), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"The request's body is not valid JSON: {error}.", code="invalid_json") from None
