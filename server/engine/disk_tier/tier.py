"""Extends the prefix cache from memory to disk.

A sequence that gets a slot waits for its blocks if reading them is faster than computing them. Complete blocks in
memory are written to disk. The disk cache's own threads access the files.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from server.cache_folder.block_names import BlockNames
from server.cache_folder.disk_cache import DiskCache
from server.cache_folder.reader import Lookup
from server.cache_folder.state_block import BlockKey, Piece, StateBlock
from server.engine.disk_tier.sequence_blocks import SequenceBlocks
from server.engine.prefix_cache import Node, PrefixCache, Root
from server.kv_events.blocks import BLOCK_TOKENS
from server.runtime.snapshots import Snapshot

if TYPE_CHECKING:
    from server.engine import sequence

PATIENCE_SECONDS = 2.0
"""Minimum time before a sequence gives up waiting for its blocks."""


class DiskTier:
    """The prefix cache on disk, for one engine.

    Except for `finish`, the methods return at once, and the caller must hold the engine's lock.

    hit_tokens: number of prompt tokens whose state came from the disk.
    """

    def __init__(self, disk: DiskCache, cache: PrefixCache, wake: threading.Condition) -> None:
        """Connect a disk cache to the prefix cache in memory.

        wake: the engine's lock, notified when a sequence has received its last blocks.
        """
        self.disk = disk
        self.hit_tokens = 0
        self._cache = cache
        self._wake = wake
        self._awaiting: list[sequence.Sequence] = []
        self._finishing = False

    def look_up(self, seq: sequence.Sequence, compute_seconds: float) -> None:
        """Start reading the blocks of `seq` that are not in memory, if that saves time.

        compute_seconds: expected time to prefill the sequence without the disk.
        """
        salt = seq.request.context.cache_salt
        names = self.disk.names(salt) if seq.blocks is None else seq.blocks.names
        blocks = seq.blocks = SequenceBlocks(names)
        tokens = seq.tokens[: seq.length - 1]  # the last token is always computed
        names.extend(tokens)
        end = len(tokens) // BLOCK_TOKENS
        if seq.expected_cached // BLOCK_TOKENS >= end or not compute_seconds or seq.request.prompt_logprobs is not None:
            return
        deadline = time.monotonic() + max(PATIENCE_SECONDS, compute_seconds)
        per_block = compute_seconds * BLOCK_TOKENS / seq.remaining

        def first_missing() -> int:
            with self._wake:
                blocks.read_from = self._cache.count_cached(tokens, salt)
                first = blocks.read_from // BLOCK_TOKENS
                blocks.read_to = first * BLOCK_TOKENS
                return first

        def deliver(snapshots: Sequence[Snapshot], last: bool) -> bool:
            with self._wake:
                return self._insert(seq, blocks, snapshots, last)

        if self.disk.look_up(Lookup(names, tokens, first_missing, end, per_block, deadline, deliver)):
            blocks.deadline = deadline
            self._awaiting.append(seq)

    def end_overdue_waits(self) -> None:
        """End the waits of sequences whose deadlines have passed."""
        now = time.monotonic()
        for seq in self._awaiting:
            if seq.blocks is not None and seq.blocks.deadline is not None and seq.blocks.deadline <= now:
                seq.blocks.deadline = None
        self._awaiting = [seq for seq in self._awaiting if seq.awaits_disk and seq.slot is not None]

    def seconds_to_wait(self) -> float | None:
        """Return the seconds until the next deadline.

        Returns None if no sequence is waiting for the disk.
        """
        deadlines = [seq.blocks.deadline for seq in self._awaiting if seq.blocks and seq.blocks.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def count_hit(self, seq: sequence.Sequence, cached: int) -> None:
        """Record that a sequence starts with `cached` tokens from the prefix cache."""
        if seq.blocks is None:
            return
        self.hit_tokens += max(0, min(cached, seq.blocks.read_to) - seq.blocks.read_from)
        seq.blocks.deadline = None
        self.disk.use(seq.blocks.names.names[: cached // BLOCK_TOKENS])

    def write(self, seq: sequence.Sequence, end: int, place: tuple[Node, int]) -> None:
        """Write the blocks of `seq` that end between tokens `seq.saved` and `end`.

        place: result of PrefixCache.insert for the first `end` tokens.
        """
        if seq.blocks is None or seq.saved // BLOCK_TOKENS == end // BLOCK_TOKENS:
            return
        node, offset = place
        seq.blocks.names.extend(seq.tokens[:end])
        for index in range(seq.saved // BLOCK_TOKENS, end // BLOCK_TOKENS):
            key = _key(seq.blocks.names, index, seq.tokens)
            windows = node.snapshot.windows if key.end == end and offset == len(node.tokens) else {}
            self.disk.write(StateBlock(key, _pieces(node, offset, end - key.end), windows))

    def finish(self, deadline: float) -> None:
        """Write the blocks that are only in memory, and end the disk cache's threads.

        Call this after the engine has stopped.

        deadline: time by which to return, in monotonic seconds.
        """
        with self._wake:
            self._finishing = True
        self.disk.finish(self._blocks_in_memory(), deadline)

    def _insert(
        self, seq: sequence.Sequence, blocks: SequenceBlocks, snapshots: Sequence[Snapshot], last: bool
    ) -> bool:
        """Add snapshots from the disk to the prefix cache in memory.

        Returns whether the sequence is waiting for more snapshots.

        last: whether no more snapshots of the sequence follow.
        """
        if self._finishing:  # `finish` reads the cache without the engine's lock
            return False
        salt = seq.request.context.cache_salt
        for snapshot in snapshots:
            end = blocks.read_to + snapshot.length
            if self._cache.insert(seq.tokens[:end], salt, snapshot) is None:
                last = True
                break
            blocks.read_to = end
        if last and blocks.deadline is not None:
            blocks.deadline = None
            if seq.blocks is blocks:
                seq.expected_cached = self._cache.count_cached(seq.tokens[: seq.length - 1], salt)
            self._wake.notify_all()
        return not last and blocks.deadline is not None and not seq.cancelled

    def _blocks_in_memory(self) -> Iterator[StateBlock]:
        """Yield the complete blocks in memory, the most recently used path first.

        A path leads from the root of the cache's tree to a leaf. A block on several paths comes once per path.
        """
        for salt, nodes in self._cache.paths():
            tokens = np.concatenate([node.tokens for node in nodes])
            ends = list(accumulate(len(node.tokens) for node in nodes))
            names = self.disk.names(salt)
            names.extend(tokens)
            for index in range(len(names.names)):
                key = _key(names, index, tokens)
                at = bisect_left(ends, key.end)
                windows = nodes[at].snapshot.windows if ends[at] == key.end else {}
                offset = len(nodes[at].tokens) - (ends[at] - key.end)
                yield StateBlock(key, _pieces(nodes[at], offset, 0), windows)


def _key(names: BlockNames, index: int, tokens: npt.NDArray[np.int64]) -> BlockKey:
    end = (index + 1) * BLOCK_TOKENS
    return BlockKey(names.names[index], names.parent(index), end, tokens[end - BLOCK_TOKENS : end].copy())


def _pieces(node: Node, offset: int, skipped: int) -> tuple[Piece, ...]:
    """Return the parts of snapshots that make up a block, in order.

    The block ends `skipped` tokens before position `offset` of `node`. It may end in an ancestor of `node`.
    """
    pieces: list[Piece] = []
    missing, end = BLOCK_TOKENS, offset
    current: Root = node
    while isinstance(current, Node) and missing:
        if skipped < end:
            begin = max(0, end - skipped - missing)
            pieces.append(Piece(current.snapshot, begin, end - skipped))
            missing -= end - skipped - begin
            skipped = 0
        else:
            skipped -= end
        current = current.parent
        end = len(current.tokens) if isinstance(current, Node) else 0
    return tuple(reversed(pieces))
