"""Draws next tokens, and adds the tokens that constraints force after them."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from server.engine.sampling.constraint import Bitmask, mask_words
from server.engine.sampling.logprobs import Logits
from server.engine.sampling.sampler import sample
from server.engine.sequence import Sequence
from server.engine.types import TokenLogprobs
from server.errors import InvalidRequestError, LfmServeError, StepFailedError

log = logging.getLogger(__name__)

Draw = tuple[int, TokenLogprobs | None]
"""A token and its log-probabilities, which are None unless the request wants them."""


def draw(
    logits: Logits, sequences: list[Sequence], unknown_ids: npt.NDArray[np.int64], min_forced: float
) -> list[list[Draw] | LfmServeError]:
    """Draw each sequence's next token, followed by the tokens its constraint forces.

    Returns the tokens of each sequence, or the error that ends it. The error means that logits are not finite, that
    the constraint failed, or that no token is allowed.

    logits: float32 [sequences, vocab], modified in place.
    unknown_ids: int64, ids that are never drawn.
    min_forced: minimum number of tokens, counting the drawn one. If there are fewer, only the drawn one is returned.
    """
    finite = np.isfinite(logits.max(axis=1))
    logits[:, unknown_ids] = -np.inf
    not_finite = StepFailedError("The model computed NaN or infinite logits for this request.")
    draws: list[list[Draw] | LfmServeError] = [not_finite] * len(sequences)
    rows: list[int] = []
    masks: list[Bitmask | None] = []
    for i in np.flatnonzero(finite).tolist():
        try:
            masks.append(_mask(sequences[i], logits.shape[1]))
            rows.append(i)
        except BaseException as error:
            draws[i] = _row_error(sequences[i], error)
    drawn = sample(logits if len(rows) == len(draws) else logits[rows], [sequences[i] for i in rows], masks)
    for i, first in zip(rows, drawn, strict=True):
        try:
            draws[i] = _no_token_allowed() if first is None else _with_forced(sequences[i], first, min_forced)
        except BaseException as error:
            draws[i] = _row_error(sequences[i], error)
    return draws


def _row_error(sequence: Sequence, error: BaseException) -> LfmServeError:
    """Return the error that ends one sequence.

    error: exception from the constraint. Compiled constraints raise BaseException for internal faults.
    """
    if isinstance(error, LfmServeError):
        return error
    log.error("The constraint of request %s failed.", sequence.request.context.id, exc_info=error)
    return StepFailedError("The output constraint of this request failed. The server's log contains the cause.")


def _no_token_allowed() -> InvalidRequestError:
    return InvalidRequestError(
        "No token can come next: together, the grammar, min_tokens and the model's unused token ids exclude all "
        "tokens.",
        code="no_token_allowed",
    )


def _mask(sequence: Sequence, vocab_size: int) -> Bitmask | None:
    """Return the mask of a sequence's constraint, or None if all tokens are allowed."""
    constraint = sequence.request.constraint
    if constraint is None:
        return None
    mask = np.empty(mask_words(vocab_size), np.int32)
    return mask if constraint.mask(mask) else None


def _with_forced(sequence: Sequence, drawn: Draw, min_forced: float) -> list[Draw]:
    """Commit the drawn token and the tokens forced after it, and return them.

    Returns only the drawn token if there are fewer than `min_forced` tokens, or if the request wants log-probabilities,
    which need the logits of each token.
    """
    request, token = sequence.request, drawn[0]
    if request.constraint is None:
        return [drawn]
    request.constraint.commit(token)
    room = request.max_tokens - sequence.generated - 1
    if token in request.stop_token_ids or request.sampling.top_logprobs is not None or min_forced > 1 + room:
        return [drawn]
    forced = request.constraint.forced_tokens()[:room]
    if 1 + len(forced) < min_forced:
        return [drawn]
    for follower in forced:
        request.constraint.commit(follower)
    if request.sampling.temperature > 0:
        # Use up one random number per forced token, so that later draws do not depend on `min_forced`.
        sequence.rng.random(len(forced))
    return [drawn, *((follower, None) for follower in forced)]
