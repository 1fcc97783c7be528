"""Stores entries in a folder that several processes may share.

There is no index. A file's modification time is the time of its last use.

There are no locks. Each file is written under a temporary name, then renamed, so it is never seen incomplete.
Processes that write the same entry write equal bytes. Processes that evict at the same time choose the same files.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

ENTRIES = "blocks"
"""The subfolder of the entries. Files outside it are never read or removed."""

SUFFIX = ".safetensors"
NAME = re.compile(rf"([0-9a-f]{{32}}){re.escape(SUFFIX)}")
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{16}\.partial")
SHARD_DIGITS = 2
ABANDONED_SECONDS = 3600
"""The age at which a temporary file counts as left behind by a killed process."""

SWEPT_SHARE = 0.9
"""The share of the budget that an eviction leaves in use. More free space makes evictions rarer."""

WORK_SECONDS = 0.001
PAUSE_SECONDS = 0.004
"""The pause after each WORK_SECONDS of going through a large folder.

A thread that makes one short system call after the other can take the GIL back before a waiting thread wakes up. The
engine might then wait for `sys.getswitchinterval` several times per step.
"""


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries in a folder.

    names: names of the entries.
    sizes: int64 [n], sizes in bytes.
    used: float64 [n], times of last use in seconds since the epoch.
    """

    names: list[str]
    sizes: npt.NDArray[np.int64]
    used: npt.NDArray[np.float64]

    @property
    def bytes(self) -> int:
        """The size of all entries together."""
        return int(self.sizes.sum())


class EntryFolder:
    """A folder of entries.

    All methods may raise OSError, and any thread may call them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = path / ENTRIES

    def create(self) -> None:
        """Create the folder, accessible to this user only."""
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700, parents=True)
        self._entries.mkdir(mode=0o700, exist_ok=True)
        if stat.S_IMODE(self._entries.stat().st_mode) != 0o700:
            self._entries.chmod(0o700)

    def file(self, name: str) -> Path:
        """Return the path of an entry."""
        return self._entries / name[:SHARD_DIGITS] / f"{name}{SUFFIX}"

    def exists(self, name: str) -> bool:
        """Return whether the folder has the entry `name`."""
        return self.file(name).exists()

    def open(self, name: str) -> BufferedReader:
        """Open an entry for reading."""
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = os.open(self.file(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return os.fdopen(descriptor, "rb")

    def write(self, name: str, parts: Sequence[memoryview | bytes]) -> None:
        """Write an entry, replacing any of the same name."""
        target = self.file(name)
        # Not the process id: in containers that share a volume, every server has the same one.
        partial = target.parent / f".{name}.{secrets.token_hex(8)}.partial"
        try:
            descriptor = self._open_new(partial)
        except FileNotFoundError:  # the first entry of its shard, or the folder was removed
            self.create()
            target.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = self._open_new(partial)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(parts)
            partial.rename(target)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def touch(self, name: str) -> bool:
        """Mark an entry as just used, and return whether it exists."""
        try:
            os.utime(self.file(name))
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove an entry if it exists."""
        self.file(name).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """Return the names of all entries."""
        return {match[1] for file in paced(self._files()) if (match := NAME.fullmatch(file.name))}

    def listing(self) -> Listing:
        """Return the names, sizes and times of last use of all entries."""
        return _listing(self._files())

    def sweep(self, budget: int) -> tuple[list[str], int]:
        """Evict the least recently used entries if the folder exceeds `budget` bytes.

        Also removes abandoned temporary files. Pauses often, so that other threads get the GIL.
        Returns the names of the evicted entries, and the total size of the remaining entries in bytes.
        """
        files = list(paced(self._files()))
        _remove_abandoned(paced(files))
        listing = _listing(paced(files))
        remaining = listing.bytes
        if remaining <= budget:
            return [], remaining
        evicted = []
        for index in paced(np.argsort(listing.used, kind="stable").tolist()):
            if remaining <= SWEPT_SHARE * budget:
                break
            self.remove(listing.names[index])
            evicted.append(listing.names[index])
            remaining -= int(listing.sizes[index])
        return evicted, remaining

    def clear(self) -> None:
        """Remove all entries and temporary files."""
        for file in list(self._files()):
            if NAME.fullmatch(file.name) or PARTIAL.fullmatch(file.name):
                Path(file.path).unlink(missing_ok=True)

    def _files(self) -> Iterator[os.DirEntry[str]]:
        """Yield everything in the shards (subfolders such as `3f`)."""
        for shard in _scan(self._entries):
            if len(shard.name) == SHARD_DIGITS and shard.is_dir(follow_symlinks=False):
                yield from _scan(Path(shard.path))

    def _open_new(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _listing(files: Iterable[os.DirEntry[str]]) -> Listing:
    """Return the names, sizes and times of last use of the entries among `files`."""
    names, sizes, used = [], [], []
    for file in files:
        if (match := NAME.fullmatch(file.name)) is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            status = file.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                names.append(match[1])
                sizes.append(status.st_size)
                used.append(status.st_mtime)
    return Listing(names, np.array(sizes, np.int64), np.array(used, np.float64))


def _remove_abandoned(files: Iterable[os.DirEntry[str]]) -> None:
    """Remove old temporary files."""
    before = time.time() - ABANDONED_SECONDS
    for file in files:
        if PARTIAL.fullmatch(file.name):
            with contextlib.suppress(FileNotFoundError):
                if file.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(file.path)


def paced(items: Iterable[T]) -> Iterator[T]:
    """Yield all items, with a pause after each WORK_SECONDS."""
    begin = time.thread_time()  # CPU time: a thread that waits for the disk does not hold the GIL
    for item in items:
        yield item
        if time.thread_time() - begin > WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            begin = time.thread_time()


def _scan(folder: Path) -> Iterable[os.DirEntry[str]]:
    """Return the content of a folder, or nothing if it does not exist."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []
