"""Names blocks of tokens by everything that determines their state.

A block is 64 consecutive tokens of a sequence, counted from its start. Its name is a chained hash: it covers the name
of the preceding block and the block's own tokens. Two sequences therefore share a block's name exactly if they have the
same model, the same salt, and the same tokens up to the end of the block.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_TOKENS = 64
"""The number of tokens in a block."""

NAME_BYTES = 16

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of tokens.

    `name`: chained hash, 16 bytes.
    `parent`: name of the preceding block; None if the block is the first of its sequence.
    `tokens`: int64 [BLOCK_TOKENS], the block's own tokens.
    """

    name: bytes
    parent: bytes | None
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class BlockRun:
    """The blocks that end within a run of tokens.

    `blocks`: the blocks, in order. The first of them may begin before the run.
    `link`: hash that the next block's name covers: the name of the last block before the run's end, or the hash of the
        model and the salt if there is none.
    `parent`: name of the last block before the run's end; None if there is none.
    `rest`: int64 [n < BLOCK_TOKENS], the tokens after the last block, up to the run's end.
    """

    blocks: tuple[Block, ...]
    link: bytes
    parent: bytes | None
    rest: Tokens


def first_link(identity: bytes, salt: str) -> bytes:
    """Return the hash that the name of a sequence's first block covers.

    `identity`: bytes that differ between models whose state differs.
    """
    return hashlib.sha256(identity + salt.encode("utf-8", "surrogatepass")).digest()[:NAME_BYTES]


def next_link(link: bytes, tokens: Tokens) -> bytes:
    """Return the name of the block of `tokens` that follows `link`: the preceding block's name, or the first link."""
    return hashlib.sha256(link + tokens.astype("<i8", copy=False).tobytes()).digest()[:NAME_BYTES]


NO_TOKENS: Tokens = np.empty(0, np.int64)
NO_BLOCKS = BlockRun((), b"", None, NO_TOKENS)


def first_run(identity: bytes, salt: str) -> BlockRun:
    """Return the empty run with which all sequences of a model and a salt start.

    `identity`: bytes that differ between models whose state differs.
    """
    return BlockRun((), first_link(identity, salt), None, NO_TOKENS)


def next_run(before: BlockRun, tokens: Tokens) -> BlockRun:
    """Return the run of `tokens`, which follow the run `before`."""
    link, parent, blocks = before.link, before.parent, []
    pending = np.concatenate([before.rest, tokens])
    whole = len(pending) // BLOCK_TOKENS * BLOCK_TOKENS
    for begin in range(0, whole, BLOCK_TOKENS):
        own = pending[begin : begin + BLOCK_TOKENS]
        link = next_link(link, own)
        blocks.append(Block(link, parent, own))
        parent = link
    return BlockRun(tuple(blocks), link, parent, pending[whole:])
