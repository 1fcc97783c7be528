"""A router that follows KV events."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np
import numpy.typing as npt

from server.kv_events.blocks import BLOCK_TOKENS, first_run, next_run
from server.kv_events.changes import Stored
from server.kv_events.messages import EventBatch, block_hash, events_of
from server.kv_events.publisher import Cache

IDENTITY = b"model"


def hashes(tokens: npt.ArrayLike, salt: str = "") -> list[int]:
    """Return the hashes of a sequence's whole blocks."""
    return [block_hash(b.name) for b in next_run(first_run(IDENTITY, salt), np.asarray(tokens, np.int64)).blocks]


class Router:
    """The set of blocks on each medium, as a router reads them from the bytes of events."""

    def __init__(self) -> None:
        self.blocks: defaultdict[str, set[int]] = defaultdict(set)

    def read(self, payload: bytes) -> None:
        _, events, rank = msgspec.msgpack.decode(payload)
        assert rank == 0
        for tag, *fields in events:
            if tag == "AllBlocksCleared":
                self.blocks.clear()
            elif tag == "BlockStored":
                stored, parent, tokens, size, lora, medium = fields
                assert (size, lora) == (BLOCK_TOKENS, None)
                assert len(tokens) == size * len(stored)
                assert medium == "STORAGE" or parent is None or parent in self.blocks[medium]
                assert self.blocks[medium].isdisjoint(stored)
                self.blocks[medium].update(stored)
            else:
                removed, medium = fields
                assert tag == "BlockRemoved"
                assert self.blocks[medium].issuperset(removed)
                self.blocks[medium].difference_update(removed)

    def follow(self, cache: Cache) -> set[int]:
        """Read the events since the last call, and return the blocks that the cache holds according to them."""
        changes = cache.take()
        if changes is None:
            self.blocks[cache.medium].clear()
            changes = [Stored(block) for block in cache.take_all()]
        self.read(msgspec.msgpack.encode(EventBatch(0.0, list(events_of(changes, cache.medium)), 0)))
        return self.blocks[cache.medium]
