"""Reads server-sent events.

Works with any HTTP client: `server.bench` uses its own, not httpx.
"""

from __future__ import annotations

from typing import Any

import pydantic_core


class EventParser:
    """A parser that splits the bytes of a stream into the JSON objects of its events.

    Comments, event names and `[DONE]` are skipped.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the objects that `data` completes.

        Raises ValueError if an object is not valid JSON.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        values = (line[5:].strip() for line in lines if line.startswith(b"data:"))
        return [pydantic_core.from_json(value) for value in values if value.startswith(b"{")]
