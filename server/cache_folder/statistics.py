"""Counts the reads, writes and evictions of a cache folder."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class DiskStats:
    """Statistics of the prefix cache on disk.

    The first three fields are current values. The others are totals since the start.

    bytes: size of all entries in the folder, including those of other servers.
    writable: whether the last write succeeded.
    evicted_blocks: number of blocks that this server evicted.
    dropped_blocks: number of blocks not written because the disk was too slow.
    damaged_files: number of damaged files that were removed.
    slow_reads: number of prompts that were computed because reading would have taken longer.
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
        """Increase fields by amounts. Example: `add(read_blocks=1)`."""
        with self._lock:
            total = {name: getattr(self._stats, name) + amount for name, amount in amounts.items()}
            self._stats = replace(self._stats, **total)

    def set(self, **values: float) -> None:
        """Set fields to values. Example: `set(writable=True)`."""
        with self._lock:
            self._stats = replace(self._stats, **values)  # type: ignore[arg-type]
