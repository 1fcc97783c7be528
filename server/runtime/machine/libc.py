"""Functions of libc that Python lacks, with the types of their arguments."""

from __future__ import annotations

import ctypes
from functools import cache

MAP_FAILED = ctypes.c_void_p(-1).value
MAP_FIXED = 0x10  # from mmap(2); Python's mmap module lacks it


@cache
def libc() -> ctypes.CDLL:
    """Return libc with typed mmap, mlock, madvise and, on Linux, mremap."""
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.restype = pointer
    library.mmap.argtypes = pointer, size, number, number, number, ctypes.c_long
    library.mlock.argtypes = pointer, size
    library.madvise.argtypes = pointer, size, number
    if hasattr(library, "mremap"):
        library.mremap.restype = pointer
        library.mremap.argtypes = pointer, size, size, number, pointer
    return library
