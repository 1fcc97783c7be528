"""Defines the interface of constraints and the bitmask of allowed tokens."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Bitmask = npt.NDArray[np.int32]
"""The type of a bitmask over tokens: int32 [mask_words(vocab)].

Bit i % 32 of word i // 32 is set if token i may come next.
"""


class Constraint(Protocol):
    """The interface of a constraint on the next tokens of one sequence.

    A constraint is not thread-safe. If one of its methods raises LfmServeError, only its sequence ends.
    """

    def mask(self, out: Bitmask) -> bool:
        """Write the set of allowed tokens to `out`.

        The set has at least one token. Returns False and leaves `out` unchanged if all tokens are allowed, otherwise
        True.
        """

    def commit(self, token: int) -> None:
        """Advance the constraint by one token.

        `token`: the next token of the sequence; must be allowed.
        """

    def forced_tokens(self) -> list[int]:
        """Return the tokens that must come next, in order.

        Does not advance the constraint.
        """


def mask_words(vocab_size: int) -> int:
    """Return the length of a bitmask for `vocab_size` tokens."""
    return (vocab_size + 31) // 32


def forbid(logits: npt.NDArray[np.float32], mask: Bitmask) -> None:
    """Set the logits of all tokens that are not in `mask` to -inf, in place.

    `logits`: float32 [vocab].
    """
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little", count=len(logits))
    np.putmask(logits, bits == 0, -np.inf)
