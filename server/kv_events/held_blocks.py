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
    """The name of a block that the cache no longer holds."""

    name: bytes


Change = Stored | Removed


class HeldBlocks:
    """The blocks that one cache holds.

    The cache keeps runs of tokens in a tree that starts at the first token, and reports each run that it adds, cuts or
    removes. A block is held while the tree has a run within which the block ends. All earlier blocks of the sequence
    are then held, too.

    Thread-safe. Methods hold the lock for microseconds; `take_all` holds it while it copies a list.

    `medium`: the name that events use for the cache's storage, such as IN_MEMORY.
    `changed`: called when a change arrives and no other changes are waiting to be taken. It must not block.
    """

    def __init__(self, identity: bytes, medium: str, max_changes: int = MAX_CHANGES) -> None:
        """Create a tracker without blocks.

        `identity`: bytes that identify the model. They must differ for models that compute different state.
        `max_changes`: maximum number of changes that wait to be taken. If there are more, all of them are dropped.
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
        """Add and return the run that consists of `tokens` and follows the run `before`."""
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

        `head`: the run that consists of the removed tokens. It must be added first, so that its blocks stay held.
        """
        self._release(run.blocks[: len(head.blocks)])
        return BlockRun(run.blocks[len(head.blocks) :], run.link, run.parent, run.rest)

    def remove(self, run: BlockRun) -> None:
        """Remove a run. No other run may follow it."""
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
        """Add `changes` to the changes that wait to be taken.

        If there are then too many, drops all of them.
        """
        if not changes or self._dropped:
            return
        was_empty = not self._changes
        self._changes += changes
        if len(self._changes) > self._max_changes:
            self._changes, self._dropped = [], True
        if was_empty:
            self.changed()
