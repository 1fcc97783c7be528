"""Estimates how long reading entries takes."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence

from server.cache_folder.folder import EntryFolder

RECENT_READS = 8
"""The number of recent reads that the estimate depends on."""

PROBES = 3
PROBE_NAME = b"probe".hex().ljust(32, "0")


class ReadSpeed:
    """The measured duration of reading one entry.

    All entries of a model have the same size. The estimate is the shortest of the recent reads, because a busy machine
    delays single reads, but a slow disk delays all of them.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_READS)

    def add(self, seconds: float) -> None:
        """Add the duration of reading one entry."""
        self._recent.append(seconds)

    def seconds(self, entries: int) -> float:
        """Return the expected seconds for reading `entries` entries.

        Returns 0 if nothing has been measured.
        """
        return entries * min(self._recent, default=0.0)


def measure(folder: EntryFolder, size: int) -> Sequence[float]:
    """Measure how long it takes to read a file of `size` bytes from disk.

    Drops the file from the page cache before each trial, if the system can. Returns the seconds of each trial. Raises
    OSError if the folder cannot be written or read.
    """
    seconds = []
    folder.write(PROBE_NAME, [os.urandom(size)])
    try:
        for _ in range(PROBES):
            with folder.open(PROBE_NAME) as file:
                os.fsync(file.fileno())
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                begin = time.perf_counter()
                file.read()
                seconds.append(time.perf_counter() - begin)
    finally:
        folder.remove(PROBE_NAME)
    return seconds
