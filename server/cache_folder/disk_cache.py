"""The prefix cache on disk as the engine sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from server.cache_folder.block import Block
from server.cache_folder.block_names import BlockNames
from server.cache_folder.changes import Changed
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.reader import Lookup, Reader
from server.cache_folder.statistics import DiskStats, Statistics
from server.cache_folder.writer import Writer


class DiskCache:
    """Stores blocks of state in a folder and finds them again.

    All methods except `finish` return at once and may be called from any thread: two threads of the cache access the
    folder. A folder that is full or fails never raises an error here. It stores and finds nothing until it works again.
    """

    def __init__(self, path: Path, budget: int, form: EntryFormat, changed: Changed = lambda _: None) -> None:
        """Create the cache without starting its threads.

        `path`: the folder, which is created if necessary.
        `budget`: maximum size of all entries in the folder, in bytes.
        `form`: form of the served model's entries.
        `changed`: called with each block that this server stores or removes.
        """
        self._identity = form.identity
        self._statistics = Statistics(budget)
        folder = EntryFolder(path)
        self._writer = Writer(folder, budget, form, self._statistics, changed)
        self._reader = Reader(folder, form, self._statistics, changed, self._writer.use)

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        self._reader.start()

    def finish(self, blocks: Iterable[Block], deadline: float) -> None:
        """End the threads after writing what is waiting, and then `blocks`.

        Blocks the caller, at most until `deadline` (monotonic clock, in seconds).
        """
        self._reader.stop()
        self._writer.finish(blocks, deadline)

    def names(self, salt: str) -> BlockNames:
        """Return the names of a new sequence's blocks; none yet."""
        return BlockNames(self._identity, salt)

    def look_up(self, lookup: Lookup) -> bool:
        """Start a lookup, and return whether its result is worth waiting for.

        If the result is false, `lookup.deliver` is never called.
        """
        return self._reader.look_up(lookup)

    def write(self, block: Block) -> None:
        """Store a block unless it is stored already."""
        self._writer.write(block)

    def use(self, names: Sequence[str]) -> None:
        """Mark blocks as just used, so that they are not evicted soon."""
        self._writer.use(names)

    def stats(self) -> DiskStats:
        """Return the current statistics."""
        return self._statistics.current
