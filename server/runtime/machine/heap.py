"""Tunes glibc's heap while a large model is loaded, and returns freed memory.

Loading a prepared copy allocates and frees a buffer for each weight. By default, glibc returns freed buffers to
the system, which clears their pages. This would take a fifth of the loading time.

Without glibc, the functions do nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# From mallopt(3): the numbers of its parameters, the values up to which glibc raises the two thresholds by itself, and
# the default of M_MMAP_MAX.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
LARGEST_TRIM_THRESHOLD, LARGEST_MMAP_THRESHOLD, USUAL_MMAP_MAX = 64 << 20, 32 << 20, 65536
NEVER = 2**31 - 1


def trim_heap() -> None:
    """Return freed memory to the system."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@contextmanager
def kept_heap() -> Iterator[None]:
    """Keep freed memory in the heap during a `with` block."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_ARENA_MAX, 1)  # new threads share one arena: others cannot hold large buffers
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, USUAL_MMAP_MAX)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
        libc.malloc_trim(0)
