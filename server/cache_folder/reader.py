"""Reads blocks from the cache folder on a separate thread."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.cache_folder.block_names import BlockNames
from server.cache_folder.entry import DamagedEntryError, DecodedBlock, EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.health import Health
from server.cache_folder.speed import ReadSpeed, measure
from server.cache_folder.state_block import BlockKey
from server.cache_folder.statistics import Statistics
from server.kv_events.blocks import BLOCK_TOKENS
from server.runtime.snapshots import Snapshot

log = logging.getLogger(__name__)

BATCH = 8
"""The maximum number of snapshots delivered at once."""

MEASURE_SECONDS = 30.0
"""The time after which a folder that was too slow is measured again."""

NOT_FILES = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""The errors from opening or reading something that is not a regular file."""

Deliver = Callable[[Sequence[Snapshot], bool], bool]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A search on disk for the blocks of a prompt that are not in memory.

    names: names of all blocks of the prompt.
    tokens: int64 [n], the prompt's tokens.
    first_missing: returns the index of the first block to look for. Called when the lookup begins.
    end: index after the last block to look for.
    compute_seconds: expected time to compute one block instead of reading it.
    deadline: time at which the prompt stops waiting (monotonic clock, in seconds).
    deliver: receives consecutive snapshots, and whether they are the last. Returns False to stop the reading.

    The reader's thread calls `first_missing` and `deliver`.
    """

    names: BlockNames
    tokens: npt.NDArray[np.int64]
    first_missing: Callable[[], int]
    end: int
    compute_seconds: float
    deadline: float
    deliver: Deliver

    def key(self, index: int) -> BlockKey:
        """Return the key of a block."""
        end = (index + 1) * BLOCK_TOKENS
        own = self.tokens[end - BLOCK_TOKENS : end]
        return BlockKey(self.names.names[index], self.names.parent(index), end, own)


class Reader:
    """A thread that looks up blocks and reads them."""

    def __init__(
        self,
        folder: EntryFolder,
        form: EntryFormat,
        statistics: Statistics,
        remove: Callable[[str], None],
        used: Callable[[Sequence[str]], None],
    ) -> None:
        """Create the reader without starting its thread.

        remove: removes a damaged entry; may raise OSError.
        used: receives the names of blocks after they were read.
        """
        self._folder = folder
        self._form = form
        self._statistics = statistics
        self._remove = remove
        self._used = used
        self._health = Health(folder.path, "read", statistics)
        self._speed = ReadSpeed()
        self._measured_at = float("-inf")
        self._wake = threading.Condition()
        self._waiting: deque[Lookup] = deque()
        self._current: Lookup | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="cache-reader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the current lookup."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def look_up(self, lookup: Lookup) -> bool:
        """Start a lookup, and return whether the prompt should wait for it.

        Any thread may call this. If the result is False, `lookup.deliver` is never called.
        """
        with self._wake:
            # A reader that is late now would be late for this prompt, too.
            late = self._current is not None and time.monotonic() > self._current.deadline
            if late or self._closing or not self._health.usable:
                return False
            self._waiting.append(lookup)
            self._wake.notify()
            return True

    def _run(self) -> None:
        with suppress(OSError):  # a folder that cannot be written can still be read
            for seconds in measure(self._folder, self._form.entry_bytes):
                self._speed.add(seconds)
        while (lookup := self._next()) is not None:
            try:
                self._serve(lookup)
            except Exception:
                log.exception("A block could not be read from the cache folder.")
                lookup.deliver((), True)

    def _next(self) -> Lookup | None:
        """Wait for the next lookup and return it, or None when the thread must end."""
        with self._wake:
            self._current = None
            while not self._waiting and not self._closing:
                self._wake.wait()
            self._current = None if self._closing else self._waiting.popleft()
            return self._current

    def _serve(self, lookup: Lookup) -> None:
        """Read a prompt's blocks if that is faster than computing them."""
        first = lookup.first_missing()
        found = self._count(lookup, first)
        if self._speed.seconds(found) <= found * lookup.compute_seconds:
            self._read(lookup, first, first + found)
            return
        self._statistics.add(slow_reads=1)
        lookup.deliver((), True)
        if time.monotonic() - self._measured_at > MEASURE_SECONDS:
            self._load(lookup.key(first))  # without this, one slow phase would end the use of the folder

    def _count(self, lookup: Lookup, first: int) -> int:
        """Return the number of consecutive blocks from `first` on that have a file."""
        try:
            for index in range(first, lookup.end):
                if not self._folder.exists(lookup.names.names[index]):
                    return index - first
        except OSError as error:
            self._health.failed(error)
            return 0
        return max(0, lookup.end - first)

    def _read(self, lookup: Lookup, first: int, end: int) -> None:
        """Read blocks `first` .. `end` - 1 and deliver them."""
        batch: list[Snapshot] = []
        open_run: list[Snapshot] = []
        for index in range(first, end):
            if time.monotonic() > lookup.deadline or (decoded := self._load(lookup.key(index))) is None:
                break
            open_run.append(decoded.snapshot)
            if decoded.resumable:
                batch.append(_joined(open_run, self._form))
                open_run = []
            if len(batch) == BATCH:
                if not lookup.deliver(batch, False):
                    return
                batch = []
        lookup.deliver(batch, True)

    def _load(self, key: BlockKey) -> DecodedBlock | None:
        """Read a block and return it, or None if it cannot be read."""
        self._measured_at = begin = time.monotonic()
        try:
            with self._folder.open(key.name) as file:
                decoded = self._form.decode(file, key)
        except FileNotFoundError:
            return None
        except DamagedEntryError as error:
            self._drop_damaged(key.name, str(error))
            return None
        except OSError as error:
            if error.errno in NOT_FILES:
                self._drop_damaged(key.name, "it is not a file")
            else:
                self._health.failed(error)
            return None
        seconds = time.monotonic() - begin
        self._speed.add(seconds)
        self._health.succeeded()
        self._statistics.add(read_blocks=1, read_bytes=self._form.entry_bytes, read_seconds=seconds)
        self._used([key.name])
        return decoded

    def _drop_damaged(self, name: str, reason: str) -> None:
        log.info("The file %s in the cache folder is damaged and is removed: %s.", name, reason)
        self._statistics.add(damaged_files=1)
        with suppress(OSError):
            self._remove(name)


def _joined(snapshots: Sequence[Snapshot], form: EntryFormat) -> Snapshot:
    """Return one snapshot with the state of consecutive snapshots."""
    if len(snapshots) == 1:
        return snapshots[0]
    whole = Snapshot(form.states, sum(snapshot.length for snapshot in snapshots))
    for name, array in whole.kv.items():
        np.concatenate([snapshot.kv[name] for snapshot in snapshots], axis=1, out=array)
    for name, window in whole.windows.items():
        window[:] = snapshots[-1].windows[name]
    return whole
