"""Offers the prefix cache on disk to the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from server.cache_folder.block_names import BlockNames
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.folder_blocks import FolderBlocks
from server.cache_folder.reader import Lookup, Reader
from server.cache_folder.state_block import StateBlock
from server.cache_folder.statistics import DiskStats, Statistics
from server.cache_folder.writer import Writer


class DiskCache:
    """A cache of blocks of state in a folder.

    Any thread may call the methods. All except `finish` return at once. After a disk error, the cache stores and
    finds nothing for a while.

    identity: hash of the model (see `block_names.model_identity`). The names of blocks depend on it.
    held: tracks which of the model's blocks are in the folder; None to track nothing.
    """

    def __init__(self, path: Path, budget: int, form: EntryFormat, held: FolderBlocks | None = None) -> None:
        """Create the cache without starting its threads.

        budget: maximum size of all entries, in bytes.
        """
        self.identity = form.identity
        self.held = held
        self._statistics = Statistics(budget)
        folder = EntryFolder(path)
        self._writer = Writer(folder, budget, form, self._statistics, held)
        self._reader = Reader(folder, form, self._statistics, self._writer.remove, self._writer.use)

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        self._reader.start()

    def finish(self, blocks: Iterable[StateBlock], deadline: float) -> None:
        """Write the queued blocks, then `blocks`, and end the threads.

        Gives up at `deadline` (monotonic clock, in seconds). Blocks not written by then are lost.
        """
        self._reader.stop()
        self._writer.finish(blocks, deadline)

    def names(self, salt: str) -> BlockNames:
        """Return an empty BlockNames for a new sequence."""
        return BlockNames(self.identity, salt)

    def look_up(self, lookup: Lookup) -> bool:
        """Start a lookup, and return whether the prompt should wait for it.

        If the result is False, `lookup.deliver` is never called.
        """
        return self._reader.look_up(lookup)

    def write(self, block: StateBlock) -> None:
        """Store a block unless the folder has it already."""
        self._writer.write(block)

    def use(self, names: Sequence[str]) -> None:
        """Mark blocks as just used. The least recently used blocks are evicted first."""
        self._writer.use(names)

    def stats(self) -> DiskStats:
        """Return the current statistics."""
        return self._statistics.current
