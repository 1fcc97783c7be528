"""Writes blocks to the cache folder on a separate thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.cache_folder.entry import EntryFormat, UnstorableBlockError
from server.cache_folder.folder import EntryFolder
from server.cache_folder.folder_blocks import FolderBlocks
from server.cache_folder.health import Health
from server.cache_folder.state_block import StateBlock
from server.cache_folder.statistics import Statistics

log = logging.getLogger(__name__)

PENDING_BYTES = 256 << 20
"""The maximum size of all queued blocks, whose state stays in memory."""

FRESH_SECONDS = 300.0
"""The minimum time before a block marked as used is marked again."""

FRESH_NAMES = 1 << 16
RECOUNT_SECONDS = 60.0
"""The time after which the size of the folder is measured again. Other servers may have filled it."""


@dataclass(frozen=True, slots=True)
class Used:
    """A queued item: the names of blocks to mark as just used."""

    names: Sequence[str]


class Writer:
    """A thread that writes blocks, marks blocks as used, and evicts blocks.

    Any thread may call `write`, `use` and `remove`. `write` and `use` return at once.
    """

    def __init__(
        self,
        folder: EntryFolder,
        budget: int,
        form: EntryFormat,
        statistics: Statistics,
        held: FolderBlocks | None,
    ) -> None:
        """Create the writer without starting its thread.

        budget: maximum size of all entries, in bytes.
        held: tracks which blocks are in the folder; None to track nothing.
        """
        self._folder = folder
        self._budget = budget
        self._form = form
        self._statistics = statistics
        self._held = held
        self._health = Health(folder.path, "written", statistics)
        self._wake = threading.Condition()
        self._changing = threading.Lock()  # makes changing a file and recording the change one step
        self._waiting: deque[StateBlock | Used] = deque()
        self._waiting_bytes = 0
        self._fresh: OrderedDict[str, float] = OrderedDict()
        self._counted_at = float("-inf")
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, blocks: Iterable[StateBlock], deadline: float) -> None:
        """Write the queued blocks, then `blocks`, and end the thread.

        Gives up at `deadline` (monotonic clock, in seconds). Blocks not written by then are lost.
        """
        with self._wake:
            self._stop_at = deadline
            self._wake.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        for block in blocks:
            if time.monotonic() >= deadline or self._thread.is_alive() or not self._health.usable:
                return
            self._handle(block)

    def write(self, block: StateBlock) -> None:
        """Queue a block to be written, unless its file exists.

        Drops the block if the folder has just failed, or if too many blocks are queued.
        """
        with self._wake:
            if self._is_fresh(block.key.name) or not self._health.usable:
                return
            if self._waiting_bytes + self._form.entry_bytes > PENDING_BYTES:
                self._statistics.add(dropped_blocks=1)
                return
            self._waiting_bytes += self._form.entry_bytes
            self._waiting.append(block)
            self._wake.notify()

    def remove(self, name: str) -> None:
        """Remove a damaged entry.

        Raises OSError if it cannot be removed.
        """
        with self._changing:
            self._folder.remove(name)
            self._deleted([name])

    def _deleted(self, names: Sequence[str]) -> None:
        """Record that this server has deleted files. Their blocks may be written again."""
        with self._wake:
            for name in names:
                self._fresh.pop(name, None)
        if self._held:
            self._held.discard(names)

    def use(self, names: Iterable[str]) -> None:
        """Queue blocks to be marked as just used."""
        with self._wake:
            stale = [name for name in names if not self._is_fresh(name)]
            if stale and self._health.usable:
                self._waiting.append(Used(stale))
                self._wake.notify()

    def _is_fresh(self, name: str) -> bool:
        """Return whether this server used or wrote the block in the last FRESH_SECONDS."""
        return time.monotonic() - self._fresh.get(name, float("-inf")) < FRESH_SECONDS

    def _refresh(self, name: str) -> None:
        with self._wake:
            self._fresh[name] = time.monotonic()
            self._fresh.move_to_end(name)
            if len(self._fresh) > FRESH_NAMES:
                self._fresh.popitem(last=False)

    def _run(self) -> None:
        try:
            self._folder.create()
            self._sweep(0)
            self._statistics.set(writable=True)
        except OSError as error:
            self._fail(error)
        while (item := self._next()) is not None:
            self._handle(item)

    def _next(self) -> StateBlock | Used | None:
        """Wait for the next item and return it, or None when the thread must end."""
        with self._wake:
            while not self._waiting and self._stop_at is None:
                self._wake.wait()
            if not self._waiting or (self._stop_at is not None and time.monotonic() >= self._stop_at):
                return None
            item = self._waiting.popleft()
            if isinstance(item, StateBlock):
                self._waiting_bytes -= self._form.entry_bytes
            return item

    def _handle(self, item: StateBlock | Used) -> None:
        """Carry out a queued item. Records and logs errors."""
        try:
            if isinstance(item, StateBlock):
                self._store(item)
            else:
                for name in item.names:
                    self._touch(name)
        except OSError as error:
            self._fail(error)
        except Exception:
            log.exception("A block could not be written to the cache folder.")

    def _fail(self, error: OSError) -> None:
        """Record that the folder cannot be written, and drop all queued items."""
        self._health.failed(error)
        self._statistics.set(writable=False)
        with self._wake:
            self._waiting.clear()
            self._waiting_bytes = 0

    def _touch(self, name: str) -> bool:
        """Mark a block as just used, and return whether its file exists."""
        with self._changing:
            if exists := self._folder.touch(name):
                self._refresh(name)
        return exists

    def _store(self, block: StateBlock) -> None:
        name = block.key.name
        if self._touch(name):
            return
        try:
            parts = self._form.encode(block)
        except UnstorableBlockError:
            return
        size = sum(len(part) for part in parts)
        self._make_room(size)
        begin = time.perf_counter()
        with self._changing:
            self._folder.write(name, parts)
            self._refresh(name)
            if self._held:
                self._held.add([block.key])
        self._statistics.add(
            written_blocks=1, written_bytes=size, write_seconds=time.perf_counter() - begin, bytes=size
        )
        self._health.succeeded()
        self._statistics.set(writable=True)

    def _make_room(self, size: int) -> None:
        """Evict entries if an entry of `size` bytes does not fit into the budget."""
        full = self._statistics.current.bytes + size > self._budget
        if full or time.monotonic() - self._counted_at > RECOUNT_SECONDS:
            self._sweep(size)

    def _sweep(self, size: int) -> None:
        """Measure the folder, and evict entries if `size` more bytes do not fit."""
        evicted, remaining = self._folder.sweep(self._budget - size)
        self._counted_at = time.monotonic()
        self._statistics.set(bytes=remaining)
        if evicted:
            self._statistics.add(evicted_blocks=len(evicted))
            self._deleted(evicted)
