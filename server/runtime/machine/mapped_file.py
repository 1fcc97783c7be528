"""Maps files, and keeps their pages in memory."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from server.runtime.machine.libc import MAP_FAILED, MAP_FIXED, libc
from server.runtime.machine.memory import lies_in_memory

HUGE_PAGE = 2 << 20
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25  # from madvise(2)


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file that stays mapped until the process ends.

    data: the file's bytes, uint8 [size].
    locked: whether the system must keep the pages in memory.
    """

    data: npt.NDArray[np.uint8]
    locked: bool


def map_file(path: Path) -> MappedFile:
    """Map a file and read all of it.

    Its pages are locked if the limit on locked memory permits. They are huge if possible, because huge pages need fewer
    address translations.

    Raises OSError if the file cannot be mapped.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        address = _map(file.fileno(), size)
    # Older kernels reject some advice, and pages are then small.
    libc().madvise(address, size, MADV_HUGEPAGE)
    if lies_in_memory(path):
        libc().madvise(address, size // HUGE_PAGE * HUGE_PAGE, MADV_COLLAPSE)
    data = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    # Read each page before locking them all: while pages are locked, no thread of the process can map memory.
    data[:: mmap.PAGESIZE].max()
    _raise_limit()
    return MappedFile(data, locked=libc().mlock(address, size) == 0)


def advise_huge_pages(mapped: mmap.mmap) -> None:
    """Make the system read a mapped file into huge pages if possible."""
    with suppress(OSError):  # older kernels reject the advice
        mapped.madvise(MADV_HUGEPAGE)


def keep(path: Path) -> None:
    """Announce that a file's content stays in memory until this process ends.

    Other processes see this through `is_kept`.
    """
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_SH)  # the descriptor stays open: closing it ends the lock


def is_kept(path: Path) -> bool:
    """Return whether a running process has called `keep` for the file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _map(file: int, size: int) -> int:
    """Map a file at a multiple of HUGE_PAGE, as huge pages require."""
    reserved = libc().mmap(None, size + HUGE_PAGE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    address = MAP_FAILED
    if reserved != MAP_FAILED:
        aligned = -(-reserved // HUGE_PAGE) * HUGE_PAGE
        address = libc().mmap(aligned, size, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, file, 0)
    if address is None or address == MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def _raise_limit() -> None:
    """Raise the soft limit on locked memory to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
