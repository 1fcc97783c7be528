"""The prefix cache on disk as the engine sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from server.cache_folder.block_names import BlockNames
from server.cache_folder.changes import Changed
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.reader import Lookup, Reader
from server.cache_folder.state_block import StateBlock
from server.cache_folder.statistics import DiskStats, Statistics
from server.cache_folder.writer import Writer


class DiskCache:
    """Stores blocks of state in a folder and finds them again.

    Two threads of the cache access the folder. All methods except `finish` return at once and may be called from any
    thread. If the folder is full or fails, no method raises an error. The cache then stores or finds nothing until the
    folder works again.
    """

    def __init__(self, path: Path, budget: int, form: EntryFormat, changed: Changed = lambda _: None) -> None:
        """Create the cache without starting its threads.

        `path`: the folder, which is created if necessary.
        `budget`: maximum size of all entries in the folder, in bytes.
        `form`: format of the served model's entries.
        `changed`: called with a Written or a Deleted after this server has changed the folder.
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

    def finish(self, blocks: Iterable[StateBlock], deadline: float) -> None:
        """Write the queued blocks, then write `blocks`, and end the threads.

        Returns at `deadline` (monotonic clock, in seconds) even if some blocks are not written.
        """
        self._reader.stop()
        self._writer.finish(blocks, deadline)

    def names(self, salt: str) -> BlockNames:
        """Return an empty BlockNames for a new sequence with the cache salt `salt`."""
        return BlockNames(self._identity, salt)

    def look_up(self, lookup: Lookup) -> bool:
        """Start a lookup, and return whether the prompt should wait for its blocks.

        If this method returns False, `lookup.deliver` is never called.
        """
        return self._reader.look_up(lookup)

    def write(self, block: StateBlock) -> None:
        """Store a block unless it is stored already."""
        self._writer.write(block)

    def use(self, names: Sequence[str]) -> None:
        """Mark blocks as just used, so that they are not evicted soon."""
        self._writer.use(names)

    def stats(self) -> DiskStats:
        """Return the current statistics."""
        return self._statistics.current
