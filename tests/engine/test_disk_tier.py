"""The prefix cache on disk while the engine stops."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from server.cache_folder.disk_cache import DiskCache
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.state_block import BlockKey, Piece, StateBlock
from server.engine.disk_tier.tier import DiskTier
from server.engine.prefix_cache import PrefixCache
from server.engine.sequence import Sequence
from server.kv_events.blocks import BLOCK_TOKENS
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot
from tests.engine.requests import request
from tests.waiting import wait_until

KV = StateTensor("past.0.key", "present.0.key", StateKind.KV, (1, 1), np.dtype(np.float32))
FORM = EntryFormat((KV,), b"model", half=False)


def test_a_lookup_that_ends_after_the_engine_changes_no_state(tmp_path: Path) -> None:
    """The state in memory is then being written to disk."""
    disk, wake, cache = DiskCache(tmp_path, 1 << 20, FORM), threading.Condition(), PrefixCache(1 << 20)
    tier, sequence = DiskTier(disk, cache, wake), Sequence(request(1, prompt=100), lambda _: None, 0.0)
    names, tokens = disk.names(""), sequence.tokens[:BLOCK_TOKENS]
    names.extend(tokens)
    key, state = BlockKey(names.names[0], names.parent(0), BLOCK_TOKENS, tokens), Snapshot((KV,), BLOCK_TOKENS)
    EntryFolder(tmp_path).write(key.name, FORM.encode(StateBlock(key, (Piece(state, 0, BLOCK_TOKENS),), {})))
    disk.start()
    with wake:  # the lookup waits for this lock
        tier.look_up(sequence, compute_seconds=1e9)
        wait_until(lambda: disk._reader._current is not None)
        tier.finish(time.monotonic() + 60)
    disk._reader._thread.join()
    assert disk.stats().read_blocks == 1
    assert cache.tokens == 0
