"""Encodes large JSON answers in small pieces.

A single `json.dumps` would hold the GIL for seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from fastapi.responses import Response

PIECE = 64
"""Number of list elements in one `json.dumps` call, which then takes a few milliseconds at most."""


async def json_response(build: Callable[[], Any]) -> Response:
    """Return the value of `build()` as a JSON response.

    Both `build` and the encoding run on a worker thread.
    """
    return Response(await asyncio.to_thread(lambda: encode(build())), media_type="application/json")


def encode(value: Any) -> bytes:
    """Return `value` as compact UTF-8 JSON.

    Raises ValueError for NaN and infinities.
    """
    return "".join(_pieces(value)).encode()


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        separator = "{"
        for name, element in value.items():
            yield f"{separator}{_dumps(name)}:"
            yield from _pieces(element)
            separator = ","
        yield "{}" if separator == "{" else "}"
    elif isinstance(value, list) and len(value) > PIECE:
        for begin in range(0, len(value), PIECE):
            yield f"{',' if begin else '['}{_dumps(value[begin : begin + PIECE])[1:-1]}"
        yield "]"
    elif isinstance(value, list) and value:
        for i, element in enumerate(value):
            yield "," if i else "["
            yield from _pieces(element)
        yield "]"
    else:
        yield _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
