"""Collects the changes to a cache until they are published."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.kv_events.blocks import Block

MAX_CHANGES = 10_000
"""The maximum number of changes waiting to be published.

If there are more, they are dropped, and all blocks are published again.
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block that the cache now holds."""

    block: Block


@dataclass(frozen=True, slots=True)
class Removed:
    """The name of a block that the cache no longer holds."""

    name: bytes


Change = Stored | Removed


class PendingChanges:
    """The unpublished changes to one cache. Thread-safe.

    arrived: called when a change arrives and no other changes are waiting. It must not block.
    """

    def __init__(self, max_changes: int = MAX_CHANGES) -> None:
        """Create a collection without changes.

        max_changes: maximum number of waiting changes. If there are more, all of them are dropped.
        """
        self.arrived: Callable[[], None] = lambda: None
        self._max_changes = max_changes
        self._lock = threading.Lock()
        self._changes: list[Change] = []
        self._dropped = False

    def add(self, changes: Sequence[Change]) -> None:
        """Add changes.

        If too many are then waiting, drops them and all later changes until `reset` is called.
        """
        with self._lock:
            if not changes or self._dropped:
                return
            was_empty = not self._changes
            self._changes += changes
            if len(self._changes) > self._max_changes:
                self._changes, self._dropped = [], True
        if was_empty:
            self.arrived()

    def take(self) -> list[Change] | None:
        """Return the changes since the last call, in order.

        Returns None if changes were dropped since the last call to `reset`.
        """
        with self._lock:
            if self._dropped:
                return None
            changes, self._changes = self._changes, []
            return changes

    def reset(self) -> None:
        """Discard the waiting changes, and collect changes again if some were dropped."""
        with self._lock:
            self._changes, self._dropped = [], False
