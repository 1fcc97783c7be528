"""The interface of constraints on the next tokens, and their bitmask."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Bitmask = npt.NDArray[np.int32]
"""int32 [mask_words(vocab)], one bit per token.

Bit i % 32 of word i // 32 says whether token i may come next.
"""


class Constraint(Protocol):
    """Decides which tokens of one sequence may come next. Not thread-safe.

    An LfmServeError raised by any method ends only that sequence.
    """

    def mask(self, out: Bitmask) -> bool:
        """Write the allowed tokens, at least one, to `out`.

        Returns False, with `out` unchanged, if all are allowed.
        """

    def commit(self, token: int) -> None:
        """Advance by `token`, which must be allowed."""

    def forced_tokens(self) -> list[int]:
        """Return the tokens that must come next, in order, without advancing."""


def mask_words(vocab_size: int) -> int:
    """Return the length of a Bitmask for `vocab_size` tokens."""
    return (vocab_size + 31) // 32


def forbid(logits: npt.NDArray[np.float32], mask: Bitmask) -> None:
    """Set the logits [vocab] of tokens that `mask` does not allow to -inf, in place."""
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little", count=len(logits))
    np.putmask(logits, bits == 0, -np.inf)
