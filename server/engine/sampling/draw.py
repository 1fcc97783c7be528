"""Turns logits into tokens: the drawn ones, and those that constraints force."""

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
"""A token and, if the request wants them, its log-probabilities."""


def draw(
    logits: Logits, sequences: list[Sequence], unknown_ids: npt.NDArray[np.int64], min_forced: float
) -> list[list[Draw] | LfmServeError]:
    """Draw the next tokens of each sequence. Modifies `logits`.

    `logits`: float32 [B, vocab], one row per sequence.
    `unknown_ids`: int64 token ids that are never drawn.
    `min_forced`: the tokens that a constraint forces after the drawn one are returned too, if all of them together are
    at least this many.

    Returns the tokens of each sequence, or the error that ends it: logits that are not finite, or a constraint that
    fails. An error in one row does not affect the others.
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
            draws[i] = [first, *_forced_draws(sequences[i], first[0], min_forced)]
        except LfmServeError as error:
            draws[i] = error
    return draws


def _mask(sequence: Sequence, vocab_size: int) -> Bitmask | None:
    """Return the mask of a sequence's constraint; None if every token is allowed."""
    constraint = sequence.request.constraint
    if constraint is None:
        return None
    mask = np.empty(mask_words(vocab_size), np.int32)
    return mask if constraint.mask(mask) else None


def _forced_draws(sequence: Sequence, token: int, min_forced: float) -> list[Draw]:
    """Commit `token` to the constraint, and the tokens forced after it.

    Returns the forced tokens, without `token`. If `token` and the forced tokens are fewer than `min_forced`, or if the
    request wants log-probabilities, which take logits for each token, forced tokens are neither committed nor returned.
    """
    request = sequence.request
    if request.constraint is None:
        return []
    request.constraint.commit(token)
    room = request.max_tokens - sequence.generated - 1
    if token in request.stop_token_ids or request.sampling.top_logprobs is not None or min_forced > 1 + room:
        return []
    forced = request.constraint.forced_tokens()[:room]
    if 1 + len(forced) < min_forced:
        return []
    for follower in forced:
        request.constraint.commit(follower)
    if request.sampling.temperature > 0:
        sequence.rng.random(len(forced))  # so that a seed draws the same as without forced tokens
    return [(follower, None) for follower in forced]
