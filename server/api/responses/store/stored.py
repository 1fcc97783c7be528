"""A stored response, and the interface of stores."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it is stored.

    owner: name of the API key whose request created the response; empty if there are no keys.
    created: when the response was last stored, in seconds since 1970.
    running: whether the response is still being generated.
    response: JSON of the response.
    input_items: JSON of the request's own input items, without the conversation before them.
    events: compressed events of the response (see `packed`); None if none were recorded.
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
        """Return a copy of the response, marked as failed.

        message: the reason, for the client.
        """
        error = {"code": "server_error", "message": message}
        body = self.body | {"status": "failed", "error": error}
        return replace(self, running=False, response=json.dumps(body, ensure_ascii=False).encode())


class ResponseStore(Protocol):
    """A store that keeps responses for a limited time."""

    async def put(self, stored: StoredResponse) -> None:
        """Store a response, replacing one with the same ID."""

    async def get(self, response_id: str, owner: str) -> StoredResponse | None:
        """Return a response, or None if `owner` has none with this ID."""

    async def delete(self, response_id: str, owner: str) -> bool:
        """Delete a response, and return whether `owner` had one with this ID."""

    async def close(self) -> None:
        """Release the store's resources."""


def packed(events: Sequence[bytes]) -> bytes:
    """Compress encoded events for `StoredResponse.events`."""
    return zlib.compress(b"".join(events), 1)


def unpacked(events: bytes) -> list[bytes]:
    """Return the encoded events that `packed` has compressed."""
    return [event + b"\n\n" for event in zlib.decompress(events).split(b"\n\n")[:-1]]
