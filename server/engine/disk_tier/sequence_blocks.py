"""A sequence's blocks in the prefix cache on disk."""

from __future__ import annotations

from dataclasses import dataclass

from server.cache_folder.block_names import BlockNames


@dataclass(slots=True, eq=False)
class SequenceBlocks:
    """The blocks of a sequence, and the progress of reading them from disk.

    `deadline`: when to stop waiting for the disk, in monotonic seconds, or None.
    `read_from`, `read_to`: the range of tokens whose state came from the disk.
    """

    names: BlockNames
    deadline: float | None = None
    read_from: int = 0
    read_to: int = 0
