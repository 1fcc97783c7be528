"""glibc's heap while a large model is loaded. Elsewhere than on Linux with glibc nothing is done.

onnxruntime packs a weight into a buffer of its own, finds the packed one in the prepared copy, and frees the buffer. By
itself glibc gives each of them back to the system, which hands out and clears the same pages for the next: a fifth of
the time that it takes to create a session.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3), and where glibc's own adjustment of the two thresholds ends.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
LARGEST_TRIM_THRESHOLD, LARGEST_MMAP_THRESHOLD, USUAL_MMAP_MAX = 64 << 20, 32 << 20, 65536
NEVER = 2**31 - 1


@contextmanager
def kept_heap() -> Iterator[None]:
    """Keep what is freed, until the end of the block, when all of it goes back to the system.

    Threads that begin in the block or later share one arena: others cannot hold large buffers.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_ARENA_MAX, 1)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, USUAL_MMAP_MAX)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
        libc.malloc_trim(0)
