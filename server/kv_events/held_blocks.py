"""Tracks which blocks a cache in memory holds."""

from __future__ import annotations

import threading
from itertools import islice

from server.kv_events.blocks import Block, BlockRun, Tokens, first_run, next_run
from server.kv_events.changes import MAX_CHANGES, Change, PendingChanges, Removed, Stored

IN_MEMORY = "GPU"
"""The medium of blocks in memory. vLLM calls it GPU on every device, and routers expect it."""


class HeldBlocks:
    """The blocks that one cache holds.

    The cache keeps runs of tokens in a tree and reports each change. A block is held while a run contains its last
    token. Any thread may call the methods.

    medium: name of the cache's storage in events.
    identity: bytes that identify the model.
    changes: the changes waiting to be published.
    """

    medium = IN_MEMORY

    def __init__(self, identity: bytes, max_changes: int = MAX_CHANGES) -> None:
        """Create a tracker without blocks.

        identity: bytes that identify the model (see `first_link`).
        max_changes: maximum number of waiting changes. If there are more, all are dropped.
        """
        self.changes = PendingChanges(max_changes)
        self.identity = identity
        self._lock = threading.Lock()
        self._runs: dict[bytes, int] = {}  # number of runs that contain the last token of each held block
        self._blocks: dict[bytes, Block] = {}  # held blocks by name, each after its parent

    def first_run(self, salt: str) -> BlockRun:
        """Return the empty run at the start of a sequence with this salt."""
        return first_run(self.identity, salt)

    def add(self, before: BlockRun, tokens: Tokens) -> BlockRun:
        """Add and return the run of `tokens` that follows the run `before`."""
        run = next_run(before, tokens)
        with self._lock:
            new = []
            for block in run.blocks:
                count = self._runs[block.name] = self._runs.get(block.name, 0) + 1
                if count == 1:
                    self._blocks[block.name] = block
                    new.append(Stored(block))
            self.changes.add(new)
        return run

    def cut(self, run: BlockRun, head: BlockRun) -> BlockRun:
        """Remove the beginning of a run, and return the rest.

        head: the run of the removed tokens. Add it before the cut, so that its blocks stay held.
        """
        self._release(run.blocks[: len(head.blocks)])
        return BlockRun(run.blocks[len(head.blocks) :], run.link, run.parent, run.rest)

    def remove(self, run: BlockRun) -> None:
        """Remove a run. No other run may follow it."""
        self._release(run.blocks)

    def take(self) -> list[Change] | None:
        """Return the changes since the last call, in order.

        Returns None if changes were dropped. Call `take_all` then.
        """
        return self.changes.take()

    def take_all(self) -> list[Block]:
        """Return all held blocks, parents first, and discard the waiting changes."""
        with self._lock:
            self.changes.reset()
            return list(self._blocks.values())

    def names(self, limit: int) -> list[bytes]:
        """Return the names of up to `limit` held blocks, each after its parent."""
        with self._lock:
            return list(islice(self._blocks, limit))

    def _release(self, blocks: tuple[Block, ...]) -> None:
        with self._lock:
            gone = []
            for block in reversed(blocks):
                self._runs[block.name] -= 1
                if not self._runs[block.name]:
                    del self._runs[block.name], self._blocks[block.name]
                    gone.append(Removed(block.name))
            self.changes.add(gone)
