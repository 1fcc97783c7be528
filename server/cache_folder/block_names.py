"""Names blocks by hexadecimal hashes (see `server.kv_events.blocks`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.kv_events.blocks import BLOCK_TOKENS, first_link, next_link

MARK_DIGITS = 12
"""The number of digits of a model's identity that logs and listings show."""


def model_identity(facts: Sequence[object]) -> bytes:
    """Return a hash that identifies a model.

    facts: JSON values that determine the model's state, such as the hash of its weights.
    """
    return hashlib.sha256(json.dumps(facts).encode()).digest()


class BlockNames:
    """The names of a growing sequence's blocks.

    names: names of the blocks so far.
    """

    def __init__(self, identity: bytes, salt: str) -> None:
        self.names: list[str] = []
        self._root = first_link(identity, salt)

    def extend(self, tokens: npt.NDArray[np.int64]) -> None:
        """Add the names of the whole blocks of `tokens` that have no name yet.

        tokens: int64 [n], all tokens from the start of the sequence.
        """
        previous = bytes.fromhex(self.names[-1]) if self.names else self._root
        for begin in range(len(self.names) * BLOCK_TOKENS, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            previous = next_link(previous, tokens[begin : begin + BLOCK_TOKENS])
            self.names.append(previous.hex())

    def parent(self, index: int) -> str:
        """Return the name of the block before block `index`.

        For block 0, returns a hash of the model's identity and the salt.
        """
        return self.names[index - 1] if index else self._root.hex()
