"""Estimates how long reading entries takes."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence

from server.cache_folder.folder import EntryFolder

RECENT_READS = 8
"""The number of reads on which an estimate is based."""

PROBES = 3
PROBE_NAME = b"probe".hex().ljust(32, "0")


class ReadSpeed:
    """An estimate of the time to read one entry: the time of the fastest recent read.

    A busy machine delays only some reads, but a slow disk delays all of them.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_READS)

    def add(self, seconds: float) -> None:
        """Add the duration of reading one entry."""
        self._recent.append(seconds)

    def seconds(self, entries: int) -> float:
        """Return the expected seconds for reading `entries` entries; 0 if unknown."""
        return entries * min(self._recent, default=0.0)


def measure(folder: EntryFolder, size: int) -> Sequence[float]:
    """Read `size` bytes from disk a few times, and return the seconds of each read.

    Raises OSError if the folder cannot be written or read.
    """
    seconds = []
    folder.write(PROBE_NAME, [os.urandom(size)])
    try:
        for _ in range(PROBES):
            with folder.open(PROBE_NAME) as file:
                os.fsync(file.fileno())  # only written pages can be dropped from the page cache
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                begin = time.perf_counter()
                file.read()
                seconds.append(time.perf_counter() - begin)
    finally:
        folder.remove(PROBE_NAME)
    return seconds
