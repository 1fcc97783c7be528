"""Keeps responses in memory, up to a total size."""

from __future__ import annotations

import time
from collections import OrderedDict

from server.api.responses.store.stored import StoredResponse

OVERHEAD = 1024
"""Estimated memory per stored response in addition to its contents, in bytes."""


class MemoryStore:
    """A store that drops the least recently used responses when it is full.

    size: total size of the stored responses in bytes.
    """

    def __init__(self, max_size: int, ttl: float) -> None:
        """Create an empty store.

        max_size: limit on `size`.
        ttl: seconds after which a response expires.
        """
        self.size = 0
        self._max_size = max_size
        self._ttl = ttl
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()

    async def put(self, stored: StoredResponse) -> None:
        """Store a response, replacing one with the same ID.

        A response larger than the maximum size of the store is not kept.
        """
        self._drop(stored.id)
        if _size(stored) > self._max_size:
            return
        self._responses[stored.id] = stored
        self.size += _size(stored)
        while self.size > self._max_size:
            self._drop(next(iter(self._responses)))

    async def get(self, response_id: str, owner: str) -> StoredResponse | None:
        """Return a response, or None if `owner` has none with this ID.

        The response becomes the most recently used.
        """
        stored = self._responses.get(response_id)
        if stored is None or stored.owner != owner:
            return None
        if stored.created + self._ttl < time.time():
            self._drop(response_id)
            return None
        self._responses.move_to_end(response_id)
        return stored

    async def delete(self, response_id: str, owner: str) -> bool:
        """Delete a response, and return whether `owner` had one with this ID."""
        known = await self.get(response_id, owner) is not None
        if known:
            self._drop(response_id)
        return known

    async def close(self) -> None:
        """Drop all responses."""
        self._responses.clear()

    def _drop(self, response_id: str) -> None:
        stored = self._responses.pop(response_id, None)
        self.size -= _size(stored) if stored is not None else 0


def _size(stored: StoredResponse) -> int:
    return OVERHEAD + len(stored.response) + len(stored.input_items) + len(stored.events or b"")
