"""Tracks which blocks a cache holds, and collects the changes to publish."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from server.kv_events.blocks import Block, BlockRun, Tokens, first_run, next_run

IN_MEMORY = "GPU"
"""The medium of blocks in memory. vLLM calls it GPU on every device, and routers expect it."""

MAX_CHANGES = 10_000
"""The maximum number of changes that wait to be published.

If there are more, they are dropped. The publisher then starts over with all blocks.
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block that was added to the cache."""

    block: Block


@dataclass(frozen=True, slots=True)
class Removed:
    """The name of a block that was removed from the cache."""

    name: bytes


Change = Stored | Removed


class HeldBlocks:
    """The blocks that one cache holds.

    The cache keeps runs of tokens in a tree and reports each change. It holds a block while a run contains the block's
    end. Any thread may call the methods.

    `medium`: name of the cache's storage in events, such as IN_MEMORY.
    `changed`: called when the first change arrives after a `take`. It must not block.
    """

    def __init__(self, identity: bytes, medium: str, max_changes: int = MAX_CHANGES) -> None:
        """Create a tracker without blocks.

        `identity`: bytes that identify the model (see `first_link`).
        `max_changes`: maximum number of waiting changes. If there are more, all are dropped.
        """
        self.medium = medium
        self.changed: Callable[[], None] = lambda: None
        self._identity = identity
        self._max_changes = max_changes
        self._lock = threading.Lock()
        self._runs: dict[bytes, int] = {}  # number of runs that contain the last token of each held block
        self._blocks: dict[bytes, Block] = {}  # held blocks by name, each after its parent
        self._changes: list[Change] = []
        self._dropped = False

    def first_run(self, salt: str) -> BlockRun:
        """Return the empty run at the start of a sequence with this salt."""
        return first_run(self._identity, salt)

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
            self._collect(new)
        return run

    def cut(self, run: BlockRun, head: BlockRun) -> BlockRun:
        """Remove the beginning of a run, and return the rest.

        `head`: the run of the removed tokens. Add it before the cut, so that its blocks stay held.
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
        with self._lock:
            if self._dropped:
                return None
            changes, self._changes = self._changes, []
            return changes

    def take_all(self) -> list[Block]:
        """Return all held blocks, parents first, and discard the waiting changes."""
        with self._lock:
            self._changes, self._dropped = [], False
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
            self._collect(gone)

    def _collect(self, changes: list[Stored] | list[Removed]) -> None:
        """Add to the waiting changes, or drop all of them if there are too many."""
        if not changes or self._dropped:
            return
        was_empty = not self._changes
        self._changes += changes
        if len(self._changes) > self._max_changes:
            self._changes, self._dropped = [], True
        if was_empty:
            self.changed()
