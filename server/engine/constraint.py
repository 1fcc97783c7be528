"""What the engine asks of a grammar that decides which tokens may come next. Knows no grammar."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Constraint(Protocol):
    """The state of one sequence's grammar; used by one thread at a time."""

    def allowed(self) -> npt.NDArray[np.uint32]:
        """Bit i % 32 of word i // 32 says whether token i may come next; [ceil(vocab / 32)], valid until the next call.

        At least one token is always allowed: where the grammar is satisfied, those that end the sequence.
        """

    def commit(self, token: int) -> None:
        """Go on with `token`, which was allowed."""


def forbid(logits: npt.NDArray[np.float32], constraint: Constraint) -> None:
    """Set the logits [vocab] of tokens that may not come next to -inf, in place."""
    bits = np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little", count=len(logits))
    np.putmask(logits, bits == 0, -np.inf)
