"""Defines the record of a sequence's blocks in the prefix cache on disk."""

from __future__ import annotations

from dataclasses import dataclass

from server.cache_folder.block_names import BlockNames


@dataclass(slots=True, eq=False)
class SequenceBlocks:
    """The blocks of a sequence, and the progress of reading them from disk.

    `names`: names of the blocks.
    `deadline`: time until which the sequence waits for the disk (monotonic clock, in seconds); None if it is not
    waiting.
    `read_from`, `read_to`: the state of tokens `read_from` .. `read_to` - 1 came from the disk.
    """

    names: BlockNames
    deadline: float | None = None
    read_from: int = 0
    read_to: int = 0
