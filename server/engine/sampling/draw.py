"""From a step's logits to the tokens each of its sequences goes on with: the one drawn, and those that must follow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.engine.sampling.constraint import Bitmask, mask_words
from server.engine.sampling.logprobs import Logits
from server.engine.sampling.sample import sample
from server.engine.sequence import Sequence
from server.engine.types import TokenLogprobs
from server.errors import LfmServeError, StepFailedError

Draw = tuple[int, TokenLogprobs | None]


def draw(
    logits: Logits, sequences: list[Sequence], unknown_ids: npt.NDArray[np.int64], least_ahead: float
) -> list[list[Draw] | LfmServeError]:
    """Draw for each row of `logits` [B, vocab], which is changed in the process; `unknown_ids` are never drawn.

    More than one token where a grammar leaves no choice for at least `least_ahead` in all. What goes wrong in one row,
    a NaN or a grammar's end, is that sequence's alone.
    """
    finite = np.isfinite(logits.max(axis=1))
    logits[:, unknown_ids] = -np.inf
    not_finite = StepFailedError("The model gave no finite logits for this request.")
    draws: list[list[Draw] | LfmServeError] = [not_finite] * len(sequences)
    rows: list[int] = []
    masks: list[Bitmask | None] = []
    for i in np.flatnonzero(finite).tolist():
        try:
            masks.append(_mask(sequences[i], logits.shape[1]))
            rows.append(i)
        except LfmServeError as error:
            draws[i] = error
    drawn = sample(logits if len(rows) == len(draws) else logits[rows], [sequences[i] for i in rows], masks)
    for i, first in zip(rows, drawn, strict=True):
        try:
            draws[i] = [first, *_ahead(sequences[i], first[0], least_ahead)]
        except LfmServeError as error:
            draws[i] = error
    return draws


def _mask(sequence: Sequence, vocab_size: int) -> Bitmask | None:
    constraint = sequence.request.constraint
    if constraint is None:
        return None
    mask = np.empty(mask_words(vocab_size), np.int32)
    return mask if constraint.mask(mask) else None


def _ahead(sequence: Sequence, token: int, least: float) -> list[Draw]:
    """Tell the constraint of `token`; returns what must follow it, if that makes `least` tokens in all."""
    request = sequence.request
    if request.constraint is None:
        return []
    request.constraint.commit(token)
    room = request.max_tokens - sequence.generated - 1
    if token in request.stop_token_ids or request.sampling.top_logprobs is not None or least > 1 + room:
        return []
    forced = request.constraint.forced_tokens()[:room]
    if 1 + len(forced) < least:
        return []
    for follower in forced:
        request.constraint.commit(follower)
    if request.sampling.temperature > 0:
        sequence.rng.random(len(forced))  # a seed draws the same, whether it had a choice or not
    return [(follower, None) for follower in forced]
