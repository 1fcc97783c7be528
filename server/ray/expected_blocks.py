"""Predicts which blocks a replica will hold, from the requests sent to it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Sequence

from server.kv_events.blocks import BLOCK_TOKENS

MAX_EXPECTED = 8192
"""The maximum number of blocks to remember for each replica."""

EXPECTED_SECONDS = 60.0
"""Time to remember a block after a request with this block is sent.

By then, the replica has reported the block itself.
"""


class ExpectedBlocks:
    """The blocks that one replica will hold, predicted from the requests sent to it.

    The router relies on this prediction until the replica reports the blocks itself.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()  # when to forget each block (monotonic clock)

    def add(self, blocks: Sequence[bytes]) -> None:
        """Expect the replica to hold `blocks`, for the next EXPECTED_SECONDS."""
        until = time.monotonic() + EXPECTED_SECONDS
        for block in blocks:
            self._until[block] = until
            self._until.move_to_end(block)
        while len(self._until) > MAX_EXPECTED:
            self._until.popitem(last=False)

    def prefix_tokens(self, blocks: Sequence[bytes], reported: Collection[bytes]) -> int:
        """Return how many leading tokens of a prompt the replica holds or will hold.

        blocks: names of the prompt's blocks.
        reported: names of the blocks that the replica has reported.
        """
        now = time.monotonic()
        for count, block in enumerate(blocks):
            if block not in reported and self._until.get(block, 0.0) < now:
                return count * BLOCK_TOKENS
        return len(blocks) * BLOCK_TOKENS
