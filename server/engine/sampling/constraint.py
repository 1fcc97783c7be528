"""The interface of constraints, and bitmasks of allowed tokens."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Bitmask = npt.NDArray[np.int32]
"""A set of tokens, int32 [mask_words(vocab)].

Bit i % 32 of word i // 32 is set if token i is in the set.
"""


class Constraint(Protocol):
    """A constraint on the next tokens of one sequence. Not thread-safe.

    A method that raises LfmServeError ends the sequence.
    """

    def mask(self, out: Bitmask) -> bool:
        """Write the non-empty set of allowed tokens to `out`.

        Returns True if it wrote `out`. If all tokens are allowed, it writes nothing and returns False.
        """

    def commit(self, token: int) -> None:
        """Advance the constraint by an allowed token."""

    def forced_tokens(self) -> list[int]:
        """Return the tokens that must come next, in order; [] if there is a choice.

        Does not advance the constraint.
        """


def mask_words(vocab_size: int) -> int:
    """Return the number of 32-bit words in a bitmask for `vocab_size` tokens."""
    return (vocab_size + 31) // 32


def forbid(logits: npt.NDArray[np.float32], mask: Bitmask) -> None:
    """Set the logits of tokens outside `mask` to -inf, in place.

    logits: float32 [vocab].
    """
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little", count=len(logits))
    np.putmask(logits, bits == 0, -np.inf)
