"""The blocks that events report, against what the prefix cache holds."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from server.engine.prefix_cache import Node, PrefixCache, Root
from server.kv_events.blocks import BLOCK_TOKENS, first_run, next_run
from server.kv_events.held_blocks import IN_MEMORY, HeldBlocks, Stored
from server.kv_events.messages import EventBatch, block_hash, events_of
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot

IDENTITY = b"model"
KV = StateTensor("past.0.key", "present.0.key", StateKind.KV, (1, 1), np.dtype(np.float32))
CONV = StateTensor("past_conv.1", "present_conv.1", StateKind.CONV, (1, 2), np.dtype(np.float32))


def hashes(tokens: list[int], salt: str = "") -> list[int]:
    """Return the hashes of a sequence's whole blocks."""
    return [block_hash(b.name) for b in next_run(first_run(IDENTITY, salt), np.array(tokens, np.int64)).blocks]


def content(cache: PrefixCache) -> set[int]:
    """Return the hashes of all whole blocks on a path from a root of the cache to a node."""
    found: set[int] = set()
    for node in cache:
        path: list[Node] = []
        above: Root = node
        while isinstance(above, Node):
            path.insert(0, above)
            above = above.parent
        (salt,) = (salt for salt, root in cache._roots.items() if root is above)
        found.update(hashes([token for each in path for token in each.tokens.tolist()], salt))
    return found


class Router:
    """A set of blocks that follows events, as a router reads them from their bytes."""

    def __init__(self) -> None:
        self.blocks: set[int] = set()

    def read(self, payload: bytes) -> None:
        _, events, rank = msgspec.msgpack.decode(payload)
        assert rank == 0
        for tag, *fields in events:
            if tag == "AllBlocksCleared":
                self.blocks.clear()
            elif tag == "BlockStored":
                stored, parent, tokens, size, lora, medium = fields
                assert (size, lora, medium) == (BLOCK_TOKENS, None, "GPU")
                assert len(tokens) == size * len(stored)
                assert parent is None or parent in self.blocks
                assert self.blocks.isdisjoint(stored)
                self.blocks.update(stored)
            else:
                removed, medium = fields
                assert (tag, medium) == ("BlockRemoved", "GPU")
                assert self.blocks.issuperset(removed)
                self.blocks.difference_update(removed)

    def follow(self, held: HeldBlocks) -> None:
        changes = held.take()
        if changes is None:
            self.blocks.clear()
            changes = [Stored(block) for block in held.take_all()]
        self.read(msgspec.msgpack.encode(EventBatch(0.0, list(events_of(changes, held.medium)), 0)))


def operate(cache: PrefixCache, rng: random.Random, states: tuple[StateTensor, ...]) -> None:
    """Look up a random prompt and insert its state at random checkpoints, as requests do."""
    tokens = np.array([rng.choice((7, 7, 7, 7, 8))] * rng.randrange(1, 400), np.int64)
    for at in rng.sample(range(400), 2):
        tokens[at:] = rng.choice((7, 8, 9))
    salt = rng.choice(("", "tenant"))
    begin = cache.match(tokens, salt).length
    regular = [at for at in range(BLOCK_TOKENS, len(tokens), BLOCK_TOKENS) if rng.random() < 0.8]
    for end in sorted({*regular, *rng.sample(range(400), 2), len(tokens)}):
        if begin < end <= len(tokens):
            snapshot = Snapshot(states, end - begin)
            for window in snapshot.windows.values():
                window[:] = 0
            cache.insert(tokens[:end], salt, snapshot)
            begin = end


@pytest.mark.parametrize("max_changes", [1 << 30, 20], ids=["all changes", "dropped changes"])
@pytest.mark.parametrize("states", [(KV, CONV), (KV,)], ids=["hybrid", "attention"])
def test_replayed_events_equal_the_cache(states: tuple[StateTensor, ...], max_changes: int) -> None:
    held = HeldBlocks(IDENTITY, IN_MEMORY, max_changes)
    cache, router, rng = PrefixCache(60 * Snapshot(states, 1).nbytes, held), Router(), random.Random(1)
    largest = 0
    for step in range(2_500):
        operate(cache, rng, states)
        if rng.random() < 0.3:
            router.follow(held)
            if step % 50 == 0 or max_changes == 20:
                assert router.blocks == content(cache)
            largest = max(largest, len(router.blocks))
    router.follow(held)
    assert router.blocks == content(cache)
    assert cache.evicted_tokens > 0
    assert largest > 20


def test_a_block_is_named_by_model_salt_and_all_tokens_before_its_end() -> None:
    tokens = list(range(BLOCK_TOKENS * 3 + 5))
    names = hashes(tokens)
    assert len(set(names)) == 3
    assert hashes(tokens[: BLOCK_TOKENS * 2]) == names[:2]
    assert hashes([9, *tokens[1:]])[2] != names[2]
    assert hashes(tokens, "salt")[0] != names[0]
    assert first_run(b"another", "") != first_run(IDENTITY, "")


def test_runs_that_end_within_a_block_continue_it() -> None:
    held = HeldBlocks(IDENTITY, IN_MEMORY)
    tokens = np.arange(200)
    run = held.first_run("")
    for begin, end in ((0, 50), (50, 63), (63, 64), (64, 65), (65, 200)):
        run = held.add(run, tokens[begin:end])
    assert [block_hash(block.name) for block in held.take_all()] == hashes(tokens.tolist())
    assert [block_hash(name) for name in held.names(2)] == hashes(tokens.tolist())[:2]
