"""Draws the next token of every row of a batch from its logits.

In this order: logit_bias, penalties, what may not be drawn, temperature, top_k, top_p, min_p, one draw. Work over the
whole vocabulary is done on all rows at once; what remains after the filters is small and done row by row. Knows nothing
of slots or streams.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from server.engine.constraint import Bitmask, forbid
from server.engine.logprobs import Logits, likeliest, log_sum_exp, token_logprobs
from server.engine.sequence import Sequence
from server.engine.types import SamplingParams, TokenLogprobs


def sample(
    logits: Logits, sequences: Rows[Sequence], masks: Rows[Bitmask | None] = ()
) -> list[tuple[int, TokenLogprobs | None]]:
    """Draw one token for each row of `logits` [B, vocab], which is changed in the process.

    Ids that must not be drawn are -inf already, or not in the row's mask where `masks` has one for it. Logprobs come
    from the logits as they are given.
    """
    normalizers = {
        i: log_sum_exp(logits[i]) for i, s in enumerate(sequences) if s.request.sampling.top_logprobs is not None
    }
    top = [likeliest(row, s.request.sampling.top_logprobs or 0) for row, s in zip(logits, sequences, strict=True)]
    kept = {i: logits[i].copy() for i in normalizers}
    for row, sequence, mask in zip_longest(logits, sequences, masks):
        _adjust(row, sequence, mask)
    best = logits.argmax(axis=1)
    drawn = []
    for i, sequence in enumerate(sequences):
        params = sequence.request.sampling
        token = int(best[i]) if params.temperature == 0 else _draw(logits[i], params, sequence.rng, int(best[i]))
        logprobs = token_logprobs(kept[i], normalizers[i], token, top[i]) if i in kept else None
        drawn.append((token, logprobs))
    return drawn


def _adjust(row: Logits, sequence: Sequence, mask: Bitmask | None) -> None:
    """Apply logit_bias, penalties and what may not be drawn in place."""
    params = sequence.request.sampling
    for token, bias in params.logit_bias.items():
        row[token] += bias
    if params.repetition_penalty != 1:
        # Prompt and answer alike (Keskar et al. 2019, CTRL), as transformers computes it.
        seen = row[sequence.seen]
        row[sequence.seen] = np.where(seen > 0, seen / params.repetition_penalty, seen * params.repetition_penalty)
    if (params.frequency_penalty or params.presence_penalty) and sequence.counts:
        ids = np.fromiter(sequence.counts.keys(), np.int64)
        times = np.fromiter(sequence.counts.values(), np.float32)
        row[ids] -= params.frequency_penalty * times + params.presence_penalty
    if mask is not None:
        forbid(row, mask)
    elif sequence.generated < sequence.request.min_tokens:
        row[list(sequence.request.stop_token_ids)] = -np.inf


def _draw(row: Logits, params: SamplingParams, rng: np.random.Generator, best: int) -> int:
    """One draw by inverse transform; candidates are taken in order of their ids."""
    uniform = rng.random()
    candidates, log_weights = _candidates(row, params, float(row[best]))
    cumulative = np.exp(log_weights).cumsum()
    return int(
        candidates[min(int(np.searchsorted(cumulative, uniform * cumulative[-1], "right")), len(candidates) - 1)]
    )


def _candidates(
    row: Logits, params: SamplingParams, peak: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Ids that pass top_k, top_p and min_p, ascending, with their log weights relative to the likeliest."""
    floor = peak + params.temperature * np.log(params.min_p) if params.min_p > 0 else -np.inf
    if params.top_k == 0 and params.top_p == 1:
        ids = np.flatnonzero((row >= floor) & (row > -np.inf))
        return ids, (row[ids].astype(np.float64) - peak) / params.temperature
    ids = _top_k(row, params.top_k)
    log_weights = (row[ids].astype(np.float64) - peak) / params.temperature
    ids, log_weights = _top_p(ids, log_weights, params.top_p)
    keep = row[ids] >= floor
    return ids[keep], log_weights[keep]


def _top_k(row: Logits, k: int) -> npt.NDArray[np.int64]:
    ids = np.arange(len(row)) if k == 0 or k >= len(row) else np.sort(np.argpartition(row, -k)[-k:])
    return ids[row[ids] > -np.inf]


def _top_p(
    ids: npt.NDArray[np.int64], log_weights: npt.NDArray[np.float64], top_p: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The smallest set of likeliest ids whose probability reaches `top_p` (Holtzman et al. 2020)."""
    if top_p == 1:
        return ids, log_weights
    weights = np.exp(log_weights)
    needed = top_p * weights.sum()
    # The nucleus nearly always lies within the few hundred likeliest: sort those first, all only where it does not.
    count = min(256, len(ids))
    head = np.argpartition(-weights, count - 1)[:count]
    if weights[head].sum() < needed:
        head = np.arange(len(ids))
    order = head[np.argsort(-weights[head], kind="stable")]
    size = int(np.searchsorted(weights[order].cumsum(), needed)) + 1
    nucleus = np.sort(order[:size])
    return ids[nucleus], log_weights[nucleus]
