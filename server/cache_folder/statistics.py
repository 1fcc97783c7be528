"""Counts what a cache folder does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class DiskStats:
    """Statistics of the prefix cache on disk at one moment.

    `bytes`, `bytes_budget` and `writable` are current values, the other fields are totals since the start.

    `bytes`: size of all entries in the folder as last counted, including those of other servers.
    `bytes_budget`: limit on `bytes`.
    `writable`: whether the last write succeeded.
    `read_blocks`, `read_bytes`, `read_seconds`: blocks read, their size, and the time that reading took.
    `written_blocks`, `written_bytes`, `write_seconds`: the same for blocks written.
    `evicted_blocks`: blocks that this server evicted.
    `dropped_blocks`: blocks that were not written because the disk did not keep up.
    `damaged_files`: files that were removed because they were damaged or did not hold the block of their name.
    `errors`: failed reads and writes.
    `slow_reads`: prompts whose blocks were on disk but were computed, because reading would have taken longer.
    """

    bytes: int = 0
    bytes_budget: int = 0
    writable: bool = False
    read_blocks: int = 0
    read_bytes: int = 0
    read_seconds: float = 0.0
    written_blocks: int = 0
    written_bytes: int = 0
    write_seconds: float = 0.0
    evicted_blocks: int = 0
    dropped_blocks: int = 0
    damaged_files: int = 0
    errors: int = 0
    slow_reads: int = 0


class Statistics:
    """Statistics that several threads update."""

    def __init__(self, bytes_budget: int) -> None:
        self._lock = threading.Lock()
        self._stats = DiskStats(bytes_budget=bytes_budget)

    @property
    def current(self) -> DiskStats:
        """The statistics now."""
        return self._stats

    def add(self, **amounts: float) -> None:
        """Add to the totals; a key of `amounts` is the name of a field."""
        with self._lock:
            total = {name: getattr(self._stats, name) + amount for name, amount in amounts.items()}
            self._stats = replace(self._stats, **total)

    def set(self, **values: float) -> None:
        """Set current values; a key of `values` is the name of a field."""
        with self._lock:
            self._stats = replace(self._stats, **values)  # type: ignore[arg-type]
