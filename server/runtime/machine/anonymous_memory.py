"""Maps anonymous memory, and moves it to another address without copying it."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy.typing as npt

from server.runtime.machine.libc import MAP_FIXED, libc

# Private, because dropped pages of a shared mapping would stay in the file that backs the mapping.
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
# Flags from mremap(2). With DONTUNMAP, the source stays mapped and reads as zeros; Linux 5.7 and later have it.
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4


def anonymous_mapping(size: int) -> mmap.mmap:
    """Map `size` bytes of zeroed private memory. Untouched pages take no memory.

    Raises MemoryError if the system refuses the mapping.
    """
    try:
        mapping = mmap.mmap(-1, size, flags=ANONYMOUS)
    except (OSError, OverflowError):
        raise MemoryError(f"{size:,} bytes cannot be mapped") from None
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # With huge pages, the first token of each (slot, head) would take 2 MB.
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
    return mapping


def move_pages(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> bool:
    """Move the memory pages of `source` to `target`, an array of the same size.

    Both must be contiguous parts of anonymous mappings, and no thread may use them.

    Returns False if the system cannot move pages, or if the arrays do not consist of whole pages. The content of
    `target` is then undefined.

    Raises MemoryError if the system refuses memory.
    """
    begin, size, to = source.ctypes.data, source.nbytes, target.ctypes.data
    if not hasattr(libc(), "mremap") or (begin | size | to) % mmap.PAGESIZE:
        return False
    if libc().mremap(begin, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to:
        return True
    # The failed call may have unmapped the target.
    if libc().mmap(to, size, mmap.PROT_READ | mmap.PROT_WRITE, ANONYMOUS | MAP_FIXED, -1, 0) != to:
        raise MemoryError(os.strerror(ctypes.get_errno()))
    libc().madvise(to, size, mmap.MADV_NOHUGEPAGE)
    return False
