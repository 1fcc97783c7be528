"""Moves memory to another address without copying it."""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache
from typing import Any

import numpy.typing as npt

MAP_FIXED = 0x10
# Flags from mremap(2). With DONTUNMAP, the source stays mapped and reads as zeros; Linux 5.7 and later have it.
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4


def move_pages(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> bool:
    """Move the memory pages of `source` to `target`, an array of the same size.

    Both must be contiguous parts of private anonymous mappings, and no thread may use them.

    Returns False if the system cannot move pages, or if the arrays do not consist of whole pages. The content of
    `target` is then undefined.

    Raises MemoryError if the system refuses memory.
    """
    begin, size, to = source.ctypes.data, source.nbytes, target.ctypes.data
    if (libc := _libc()) is None or (begin | size | to) % mmap.PAGESIZE:
        return False
    if libc.mremap(begin, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to:
        return True
    # The failed call may have unmapped the target.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0) | MAP_FIXED
    if libc.mmap(to, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) != to:
        raise MemoryError(os.strerror(ctypes.get_errno()))
    libc.madvise(to, size, mmap.MADV_NOHUGEPAGE)
    return False


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mremap"):
        return None
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mremap.restype = libc.mmap.restype = pointer
    libc.mremap.argtypes = pointer, size, size, number, pointer
    libc.mmap.argtypes = pointer, size, number, number, number, ctypes.c_long
    libc.madvise.argtypes = pointer, size, number
    return libc
