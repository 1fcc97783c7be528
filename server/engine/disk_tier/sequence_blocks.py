"""A sequence's blocks in the prefix cache on disk."""

from __future__ import annotations

from dataclasses import dataclass

from server.cache_folder.block_names import BlockNames


@dataclass(slots=True, eq=False)
class SequenceBlocks:
    """The blocks of a sequence, and the progress of reading them from disk.

    deadline: time at which to stop waiting for the disk, in monotonic seconds; None if prefill is not waiting.
    read_from: index of the first token whose state came from the disk.
    read_to: index after the last token whose state came from the disk; at most `read_from` if there is none.
    """

    names: BlockNames
    deadline: float | None = None
    read_from: int = 0
    read_to: int = 0
