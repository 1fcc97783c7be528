"""What the engine asks of a grammar that decides which tokens may come next. Knows no grammar."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Bitmask = npt.NDArray[np.int32]
"""[mask_words(vocab)]: bit i % 32 of word i // 32 says whether token i may come next."""


class Constraint(Protocol):
    """The state of one sequence's grammar; used by one thread at a time. An LfmServeError ends its sequence only."""

    def mask(self, out: Bitmask) -> bool:
        """Say in `out` what may come next, at least one token; False, with `out` as it was, where everything may."""

    def commit(self, token: int) -> None:
        """Go on with `token`, which was allowed."""

    def forced_tokens(self) -> list[int]:
        """The tokens that have to come next, one after the other; they are not committed by this."""


def mask_words(vocab_size: int) -> int:
    """The length of a Bitmask."""
    return (vocab_size + 31) // 32


def forbid(logits: npt.NDArray[np.float32], mask: Bitmask) -> None:
    """Set the logits [vocab] of tokens that may not come next to -inf, in place."""
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little", count=len(logits))
    np.putmask(logits, bits == 0, -np.inf)
