"""Tracks which blocks a cache holds, and collects the changes until they are published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from server.kv_events.blocks import Block, BlockRun, Tokens, first_run, next_run

IN_MEMORY = "GPU"
"""The medium of blocks that a request can use at once. vLLM calls it GPU on every device, and routers expect it."""

MAX_CHANGES = 10_000
"""The maximum number of changes that wait to be published.

If there are more, they are dropped, and the publisher starts over with all blocks.
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A block that the cache now holds."""

    block: Block


@dataclass(frozen=True, slots=True)
class Removed:
    """A block that the cache no longer holds, by its name."""

    name: bytes


Change = Stored | Removed


class HeldBlocks:
    """The blocks that one cache holds.

    The cache reports each run of tokens that it adds, cuts and removes. A block is held while any run contains its last
    token. The runs form a tree that starts at the first token, so the blocks before a held block are held too.

    Thread-safe. Methods hold the lock for microseconds; `take_all` holds it while it copies a list.

    `medium`: where the cache keeps its blocks, as events name it.
    `changed`: called if there are changes to take and there were none before. It must not block.
    """

    def __init__(self, identity: bytes, medium: str, max_changes: int = MAX_CHANGES) -> None:
        """Create a tracker without blocks.

        `identity`: bytes that differ between models whose state differs.
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
        """Return the empty run with which the sequences of a salt start."""
        return first_run(self._identity, salt)

    def add(self, before: BlockRun, tokens: Tokens) -> BlockRun:
        """Add the run of `tokens`, which follow the run `before`, and return it."""
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
        """Remove the beginning of a run, and return the rest of the run.

        `head`: the run of the removed tokens, which has been added.
        """
        self._release(run.blocks[: len(head.blocks)])
        return BlockRun(run.blocks[len(head.blocks) :], run.link, run.parent, run.rest)

    def remove(self, run: BlockRun) -> None:
        """Remove a run that no other run follows."""
        self._release(run.blocks)

    def take(self) -> list[Change] | None:
        """Return the changes since the last call, in order.

        Returns None if changes were dropped. The publisher must then start over with `take_all`.
        """
        with self._lock:
            if self._dropped:
                return None
            changes, self._changes = self._changes, []
            return changes

    def take_all(self) -> list[Block]:
        """Return all held blocks, each after its parent, and discard the changes so far."""
        with self._lock:
            self._changes, self._dropped = [], False
            return list(self._blocks.values())

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
        """Add changes to those to be taken, or drop all of them if there are too many."""
        if not changes or self._dropped:
            return
        was_empty = not self._changes
        self._changes += changes
        if len(self._changes) > self._max_changes:
            self._changes, self._dropped = [], True
        if was_empty:
            self.changed()
