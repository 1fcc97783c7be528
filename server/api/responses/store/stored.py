"""A stored response, and the interface of stores."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and the data about it that later requests need.

    owner: name of the key that created the response; empty if the server has no keys.
    created: seconds since 1970.
    running: whether the response is still being generated.
    response: JSON of the response.
    input_items: JSON of the list of input items, without the items of earlier responses.
    events: the compressed events; None if the response was neither streamed nor generated in the background.
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
        """The response, decoded from JSON."""
        body: dict[str, Any] = json.loads(self.response)
        return body

    @property
    def items(self) -> list[dict[str, Any]]:
        """The input items, decoded from JSON."""
        items: list[dict[str, Any]] = json.loads(self.input_items)
        return items

    def failed(self, message: str) -> StoredResponse:
        """Return a copy whose response has failed.

        message: the reason, for the client.
        """
        error = {"code": "server_error", "message": message}
        body = self.body | {"status": "failed", "error": error}
        return replace(self, running=False, response=json.dumps(body, ensure_ascii=False).encode())


class ResponseStore(Protocol):
    """Keeps responses for a limited time."""

    async def put(self, stored: StoredResponse) -> None:
        """Store a response, replacing any response with the same ID."""

    async def get(self, response_id: str, owner: str) -> StoredResponse | None:
        """Return a response; None if `owner` has no response with this ID."""

    async def delete(self, response_id: str, owner: str) -> bool:
        """Delete a response. Returns False if `owner` has no response with this ID."""

    async def close(self) -> None:
        """Release the store's resources."""


def packed(events: Sequence[bytes]) -> bytes:
    """Compress encoded events for `StoredResponse.events`."""
    return zlib.compress(b"".join(events), 1)


def unpacked(events: bytes) -> list[bytes]:
    """Decompress the result of `packed`, and return the encoded events."""
    return [event + b"\n\n" for event in zlib.decompress(events).split(b"\n\n")[:-1]]
