"""Names of blocks, and the blocks that runs of tokens contain."""

from __future__ import annotations

import numpy as np

from server.kv_events.blocks import BLOCK_TOKENS, first_run
from server.kv_events.held_blocks import HeldBlocks
from server.kv_events.messages import block_hash
from tests.kv_events.routers import IDENTITY, hashes


def test_a_block_is_named_by_model_salt_and_all_tokens_before_its_end() -> None:
    tokens = list(range(BLOCK_TOKENS * 3 + 5))
    names = hashes(tokens)
    assert len(set(names)) == 3
    assert hashes(tokens[: BLOCK_TOKENS * 2]) == names[:2]
    assert hashes([9, *tokens[1:]])[2] != names[2]
    assert hashes(tokens, "salt")[0] != names[0]
    assert first_run(b"another", "") != first_run(IDENTITY, "")


def test_runs_that_end_within_a_block_continue_it() -> None:
    held = HeldBlocks(IDENTITY)
    tokens = np.arange(200)
    run = held.first_run("")
    for begin, end in ((0, 50), (50, 63), (63, 64), (64, 65), (65, 200)):
        run = held.add(run, tokens[begin:end])
    assert [block_hash(block.name) for block in held.take_all()] == hashes(tokens.tolist())
    assert [block_hash(name) for name in held.names(2)] == hashes(tokens.tolist())[:2]
