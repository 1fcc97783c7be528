"""Prefixes that a replica is expected to hold."""

from __future__ import annotations

from server.kv_events.blocks import BLOCK_TOKENS
from server.ray.expected_blocks import ExpectedBlocks

BLOCKS = [bytes([i]) * 16 for i in range(5)]


def test_an_expected_prefix_ends_at_the_first_unknown_block() -> None:
    expected = ExpectedBlocks()
    expected.add(BLOCKS[1:3])
    assert expected.prefix_tokens(BLOCKS, frozenset()) == 0
    assert expected.prefix_tokens(BLOCKS, {BLOCKS[0]}) == 3 * BLOCK_TOKENS
    assert expected.prefix_tokens(BLOCKS, {*BLOCKS}) == 5 * BLOCK_TOKENS
