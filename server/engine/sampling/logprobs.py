"""Natural log-probabilities, from the model's unmodified logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.engine.sampling.largest import largest
from server.engine.types import TokenLogprobs
from server.errors import StepFailedError

Logits = npt.NDArray[np.float32]


def score(logits: Logits, tokens: npt.NDArray[np.int64], alternatives: int) -> list[TokenLogprobs]:
    """Return the log-probabilities of `tokens`.

    logits: float32 [len(tokens), vocab]; row i predicts `tokens[i]`.
    alternatives: number of likeliest tokens to score at each position, in addition to `tokens`.

    Raises StepFailedError if logits are not finite.
    """
    if not all(map(is_finite, logits)):
        raise StepFailedError("The model computed NaN or infinite logits for this request.")
    return [
        token_logprobs(row, log_sum_exp(row), int(token), likeliest(row, alternatives))
        for row, token in zip(logits, tokens, strict=True)
    ]


def is_finite(row: Logits) -> bool:
    """Return whether a row [vocab] has neither NaN nor infinity; -inf does not count."""
    return bool(np.isfinite(row.max()))


def token_logprobs(row: Logits, normalizer: float, token: int, top: npt.NDArray[np.int64]) -> TokenLogprobs:
    """Return the log-probabilities of `token` and of the ids in `top`.

    row: float32 [vocab].
    normalizer: `log_sum_exp(row)`.
    """
    return TokenLogprobs(float(row[token] - normalizer), tuple((int(t), float(row[t] - normalizer)) for t in top))


def log_sum_exp(row: Logits) -> float:
    """Return log(sum(exp(row))) of a row [vocab], computed in float64."""
    return float(np.log(np.exp(row - row.max(), dtype=np.float64).sum()) + row.max())


def likeliest(row: Logits, count: int) -> npt.NDArray[np.int64]:
    """Return the ids of the `count` largest logits, largest first."""
    if count == 0:
        return np.empty(0, np.int64)
    ids = largest(row, count)
    return ids[np.argsort(-row[ids], kind="stable")]
