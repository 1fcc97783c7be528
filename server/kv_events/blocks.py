"""Divides sequences into blocks of tokens and names the blocks.

A block is 64 consecutive tokens of a sequence, counted from its start. Its name is a hash of its link and its tokens.
The link is the name of the preceding block. The link of the first block is a hash of the model and the salt.
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

    name: hash of the block's link and tokens, 16 bytes.
    parent: name of the preceding block, or None for the first block.
    tokens: int64 [BLOCK_TOKENS].
    """

    name: bytes
    parent: bytes | None
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Consecutive tokens of a sequence, and the blocks that end among them.

    Example: a run of 100 tokens, then a run of 50. One block ends in each run, and 22 tokens are left.

    blocks: the blocks that end in the run, in order. The first one may begin before the run.
    link: link of the next block, which ends after the run.
    parent: name of the block before the next one; None if the next block is the first one.
    rest: int64 [n < BLOCK_TOKENS], tokens of the next block so far.
    """

    blocks: tuple[Block, ...]
    link: bytes
    parent: bytes | None
    rest: Tokens


def first_link(identity: bytes, salt: str) -> bytes:
    """Return the link of a sequence's first block.

    identity: bytes that identify the model, such as a hash of its weights.
    """
    return hashlib.sha256(identity + salt.encode("utf-8", "surrogatepass")).digest()[:NAME_BYTES]


def next_link(link: bytes, tokens: Tokens) -> bytes:
    """Return a block's name, which is also the link of the next block.

    link: the block's link.
    tokens: int64 [BLOCK_TOKENS].
    """
    return hashlib.sha256(link + tokens.astype("<i8", copy=False).tobytes()).digest()[:NAME_BYTES]


NO_TOKENS: Tokens = np.empty(0, np.int64)


def first_run(identity: bytes, salt: str) -> BlockRun:
    """Return the empty run at the start of a sequence.

    identity: bytes that identify the model, such as a hash of its weights.
    """
    return BlockRun((), first_link(identity, salt), None, NO_TOKENS)


def next_run(before: BlockRun, tokens: Tokens) -> BlockRun:
    """Return the run of `tokens` that follows the run `before`."""
    link, parent, blocks = before.link, before.parent, []
    pending = np.concatenate([before.rest, tokens])
    whole = len(pending) // BLOCK_TOKENS * BLOCK_TOKENS
    for begin in range(0, whole, BLOCK_TOKENS):
        own = pending[begin : begin + BLOCK_TOKENS]
        link = next_link(link, own)
        blocks.append(Block(link, parent, own))
        parent = link
    return BlockRun(tuple(blocks), link, parent, pending[whole:])
