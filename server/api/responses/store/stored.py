"""A stored response, and what a store does with it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response with all that later requests need of it.

    owner: name of the key that made it; empty if the server has no keys.
    created: seconds since 1970.
    running: whether the response is still being generated.
    response: JSON of the response.
    input_items: JSON of the list of its own input items, without those of earlier responses.
    events: its encoded events, compressed; None if it was not streamed.
    """

    id: str
    owner: str
    created: float
    running: bool
    response: bytes
    input_items: bytes
    events: bytes | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The response."""
        body: dict[str, Any] = json.loads(self.response)
        return body

    @property
    def items(self) -> list[dict[str, Any]]:
        """The input items."""
        items: list[dict[str, Any]] = json.loads(self.input_items)
        return items


class ResponseStore(Protocol):
    """Keeps responses for a limited time."""

    async def put(self, stored: StoredResponse) -> None:
        """Keep a response, or replace it by its newer state."""

    async def get(self, response_id: str, owner: str) -> StoredResponse | None:
        """Return a response, or None if `owner` has none of this ID."""

    async def delete(self, response_id: str, owner: str) -> bool:
        """Delete a response. Returns False if `owner` has none of this ID."""

    async def close(self) -> None:
        """Release the store's resources."""


def packed(events: Sequence[bytes]) -> bytes:
    """Return encoded events as `StoredResponse.events` holds them."""
    return zlib.compress(b"".join(events), 1)


def unpacked(events: bytes) -> list[bytes]:
    """Return the encoded events that `packed` has packed."""
    return [event + b"\n\n" for event in zlib.decompress(events).split(b"\n\n")[:-1]]
