"""Defines a block of state to store on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.runtime.snapshots import Array, Snapshot


@dataclass(frozen=True, slots=True)
class Piece:
    """The KV of tokens `begin` .. `end` - 1 of a snapshot."""

    snapshot: Snapshot
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class BlockKey:
    """The identity of a block.

    name: name of the block (see `block_names`).
    parent: name of the preceding block. For the first block, a hash of the model's identity and the salt.
    end: number of tokens up to the block's end.
    tokens: int64 [BLOCK_TOKENS].
    """

    name: str
    parent: str
    end: int
    tokens: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StateBlock:
    """A block and its state.

    pieces: consecutive pieces with the KV of the block's tokens.
    windows: convolution windows after the last token; empty if they are not kept.
    """

    key: BlockKey
    pieces: tuple[Piece, ...]
    windows: Mapping[str, Array]

    def kv(self, name: str) -> Array:
        """Return one KV tensor of the block, [kv_heads, BLOCK_TOKENS, head_dim]."""
        parts = [piece.snapshot.kv[name][:, piece.begin : piece.end] for piece in self.pieces]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
