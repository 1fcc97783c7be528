"""Divides sequences into blocks of tokens, and names each block by a hash.

A block is 64 consecutive tokens of a sequence, counted from its start. A block's name is a hash of its link and its
tokens. The link is the name of the preceding block. The link of a sequence's first block is a hash of the model and the
salt. Two sequences therefore share a block's name exactly if they have the same model, the same salt, and the same
tokens up to the end of the block.
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

    `name`: hash of the block's link and tokens, 16 bytes.
    `parent`: name of the preceding block; None if the block is the first of its sequence.
    `tokens`: int64 [BLOCK_TOKENS], the block's own tokens.
    """

    name: bytes
    parent: bytes | None
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class BlockRun:
    """A run of consecutive tokens, and the blocks that end within the run.

    A run may start and end inside a block. For example, a sequence may consist of a run of 100 tokens and a run of 50.
    Then one block ends within each run, and 22 tokens are left.

    `blocks`: the blocks that end within the run, in order. The first of them may begin before the run.
    `link`: link of the next block, which is the first one that ends after the run.
    `parent`: name of the block before the next block; None if the next block is the first of its sequence.
    `rest`: int64 [n < BLOCK_TOKENS], the tokens of the next block up to the end of the run.
    """

    blocks: tuple[Block, ...]
    link: bytes
    parent: bytes | None
    rest: Tokens


def first_link(identity: bytes, salt: str) -> bytes:
    """Return the link of a sequence's first block.

    `identity`: bytes that identify the model. They must differ for models that compute different state.
    """
    return hashlib.sha256(identity + salt.encode("utf-8", "surrogatepass")).digest()[:NAME_BYTES]


def next_link(link: bytes, tokens: Tokens) -> bytes:
    """Return a block's name, which is also the link of the next block.

    `link`: the block's link.
    `tokens`: int64 [BLOCK_TOKENS], the block's tokens.
    """
    return hashlib.sha256(link + tokens.astype("<i8", copy=False).tobytes()).digest()[:NAME_BYTES]


NO_TOKENS: Tokens = np.empty(0, np.int64)
NO_BLOCKS = BlockRun((), b"", None, NO_TOKENS)


def first_run(identity: bytes, salt: str) -> BlockRun:
    """Return the empty run at the start of a sequence.

    `identity`: as in `first_link`.
    """
    return BlockRun((), first_link(identity, salt), None, NO_TOKENS)


def next_run(before: BlockRun, tokens: Tokens) -> BlockRun:
    """Return the run that consists of `tokens` and follows the run `before`."""
    link, parent, blocks = before.link, before.parent, []
    pending = np.concatenate([before.rest, tokens])
    whole = len(pending) // BLOCK_TOKENS * BLOCK_TOKENS
    for begin in range(0, whole, BLOCK_TOKENS):
        own = pending[begin : begin + BLOCK_TOKENS]
        link = next_link(link, own)
        blocks.append(Block(link, parent, own))
        parent = link
    return BlockRun(tuple(blocks), link, parent, pending[whole:])
