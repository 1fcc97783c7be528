"""JSON of answers that may be large. `json.dumps` holds the GIL to its end, seconds for some of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from fastapi.responses import Response

PIECE = 64
"""Elements of a list that are encoded at once: the longest such piece takes a few milliseconds."""


async def json_response(build: Callable[[], Any]) -> Response:
    """The answer that `build` makes, made and encoded on a thread that lets the event loop have its turns."""
    return Response(await asyncio.to_thread(lambda: encode(build())), media_type="application/json")


def encode(value: Any) -> bytes:
    """`value` in UTF-8, without spaces. Raises ValueError for what is no JSON, such as NaN."""
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
