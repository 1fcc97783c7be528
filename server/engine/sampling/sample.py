"""Draws the next token of every row of a batch from its logits.

In this order: logit_bias, penalties, what may not be drawn, temperature, top_k, top_p, min_p, one draw. Work over the
whole vocabulary is done on all rows at once; what remains after the filters is small and done row by row. A row's draw
never depends on the others. Knows nothing of slots or streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Rows

import numpy as np
import numpy.typing as npt

from server.engine.sampling.constraint import Bitmask, forbid
from server.engine.sampling.logprobs import Logits, likeliest, log_sum_exp, token_logprobs
from server.engine.sequence import Sequence
from server.engine.types import SamplingParams, TokenLogprobs

GREEDY = 1e-5
"""Up to this temperature the likeliest token is drawn: a logit that is 0.001 lower has a weight of e^-100 already."""

Ids = npt.NDArray[np.int64]
LogWeights = npt.NDArray[np.floating]


def sample(
    logits: Logits, sequences: Rows[Sequence], masks: Rows[Bitmask | None] = ()
) -> list[tuple[int, TokenLogprobs | None]]:
    """Draw one token for each row of `logits` [B, vocab], which is changed in the process.

    Ids that must not be drawn are -inf already, or not in the row's mask where `masks` has one for it. Logprobs come
    from the logits as they are given.
    """
    scored = [i for i, s in enumerate(sequences) if s.request.sampling.top_logprobs is not None]
    kept = {i: logits[i].copy() for i in scored}
    _adjust(logits, sequences)
    _restrict(logits, sequences, masks)
    best = logits.argmax(axis=1)
    tokens: list[int] = best.tolist()
    peaks = logits[np.arange(len(best)), best].astype(np.float64)
    for i, ids, log_weights in _candidates(logits, [s.request.sampling for s in sequences], peaks):
        tokens[i] = _draw(ids, log_weights, sequences[i].rng.random())
    return [
        (token, _logprobs(kept[i], token, sequences[i].request.sampling.top_logprobs or 0) if i in kept else None)
        for i, token in enumerate(tokens)
    ]


def _logprobs(row: Logits, token: int, alternatives: int) -> TokenLogprobs:
    return token_logprobs(row, log_sum_exp(row), token, likeliest(row, alternatives))


def _adjust(logits: Logits, sequences: Rows[Sequence]) -> None:
    """Apply logit_bias and penalties in place."""
    repeating: list[tuple[int, Sequence]] = []
    for i, sequence in enumerate(sequences):
        params = sequence.request.sampling
        for token, bias in params.logit_bias.items():
            logits[i, token] += bias
        if params.repetition_penalty != 1:
            repeating.append((i, sequence))
    if repeating:
        _penalize_repetition(logits, repeating)
    for i, sequence in enumerate(sequences):
        params = sequence.request.sampling
        if (params.frequency_penalty or params.presence_penalty) and sequence.counts:
            ids = np.fromiter(sequence.counts.keys(), np.int64)
            times = np.fromiter(sequence.counts.values(), np.float32)
            logits[i, ids] -= params.frequency_penalty * times + params.presence_penalty


def _penalize_repetition(logits: Logits, repeating: list[tuple[int, Sequence]]) -> None:
    """Prompt and answer alike (Keskar et al. 2019, CTRL), as transformers computes it."""
    ids = [sequence.seen for _, sequence in repeating]
    lengths = [len(seen) for seen in ids]
    at = np.repeat([i for i, _ in repeating], lengths), np.concatenate(ids)
    penalties = [sequence.request.sampling.repetition_penalty for _, sequence in repeating]
    penalty = np.repeat(np.array(penalties, np.float32), lengths)
    values = logits[at]
    logits[at] = np.where(values > 0, values / penalty, values * penalty)


def _restrict(logits: Logits, sequences: Rows[Sequence], masks: Rows[Bitmask | None]) -> None:
    """Set what may not be drawn to -inf in place."""
    for i, sequence in enumerate(sequences):
        mask = masks[i] if masks else None
        if mask is not None:
            forbid(logits[i], mask)
        elif sequence.generated < sequence.request.min_tokens:
            logits[i, list(sequence.request.stop_token_ids)] = -np.inf


def _candidates(
    logits: Logits, params: Rows[SamplingParams], peaks: npt.NDArray[np.float64]
) -> Iterator[tuple[int, Ids, LogWeights]]:
    """For each row that is not greedy the ids that may be drawn, ascending, and their log weights (the peak's is 0)."""
    drawing = [i for i, p in enumerate(params) if p.temperature > GREEDY]
    # With min_p hardly any id is left, so it is applied first; without top_k that comes to the same.
    few = [i for i in drawing if params[i].min_p > 0 and params[i].top_k == 0]
    for i, ids, log_weights in _above_floors(logits, params, peaks, few):
        if params[i].top_p < 1:
            total = _total_weight(logits[i], peaks[i], params[i].temperature)
            ids, log_weights = _nucleus(ids, log_weights, params[i].top_p * total)
        yield i, ids, log_weights
    for i in drawing:
        if params[i].min_p == 0 or params[i].top_k:
            yield i, *_filtered(logits[i], params[i], peaks[i])


def _above_floors(
    logits: Logits, params: Rows[SamplingParams], peaks: npt.NDArray[np.float64], rows: list[int]
) -> Iterator[tuple[int, Ids, LogWeights]]:
    """What min_p leaves of each of `rows`, found in one pass over them."""
    if not rows:
        return
    temperatures = np.array([params[i].temperature for i in rows])
    tops = peaks[rows]
    floors = tops + temperatures * np.log([params[i].min_p for i in rows])
    block = logits if len(rows) == len(logits) else logits[rows]
    row_of, ids = np.nonzero(block >= floors.astype(np.float32)[:, None])
    log_weights = (block[row_of, ids].astype(np.float64) - tops[row_of]) / temperatures[row_of]
    begin = 0
    for i, count in zip(rows, np.bincount(row_of, minlength=len(rows)).tolist(), strict=True):
        yield i, ids[begin : begin + count], log_weights[begin : begin + count]
        begin += count


def _filtered(row: Logits, params: SamplingParams, peak: float) -> tuple[Ids, LogWeights]:
    """What top_k, top_p and min_p leave of a row; all of it, those that may not be drawn included, without them."""
    if params.top_k == 0 and params.top_p == 1 and params.min_p == 0:
        return np.arange(len(row)), (row - np.float32(peak)) * np.float32(1 / params.temperature)
    ids = _top_k(row, params.top_k)
    log_weights: LogWeights = (row[ids].astype(np.float64) - peak) / params.temperature
    if params.top_p < 1:
        ids, log_weights = _nucleus(ids, log_weights, params.top_p * float(np.exp(log_weights).sum()))
    if params.min_p > 0:
        keep = log_weights >= np.log(params.min_p)
        ids, log_weights = ids[keep], log_weights[keep]
    return ids, log_weights


def _top_k(row: Logits, k: int) -> Ids:
    ids = np.arange(len(row)) if k == 0 or k >= len(row) else np.sort(np.argpartition(row, -k)[-k:])
    return ids[row[ids] > -np.inf]


def _total_weight(row: Logits, peak: float, temperature: float) -> float:
    """The sum of a row's weights; in float32, which is 1 part in 10 million of each."""
    return float(np.exp((row - np.float32(peak)) * np.float32(1 / temperature)).sum(dtype=np.float64))


def _nucleus(ids: Ids, log_weights: LogWeights, needed: float) -> tuple[Ids, LogWeights]:
    """The smallest set of likeliest ids whose weight reaches `needed` (Holtzman et al. 2020); all where none does."""
    weights = np.exp(log_weights)
    # The nucleus nearly always lies within the few hundred likeliest: sort those first, all only where it does not.
    count = min(256, len(ids))
    head = np.argpartition(-weights, count - 1)[:count]
    if weights[head].sum() < needed:
        head = np.arange(len(ids))
    order = head[np.argsort(-weights[head], kind="stable")]
    size = int(np.searchsorted(weights[order].cumsum(), needed)) + 1
    nucleus = np.sort(order[:size])
    return ids[nucleus], log_weights[nucleus]


def _draw(ids: Ids, log_weights: LogWeights, uniform: float) -> int:
    """One of `ids` by inverse transform of `uniform`, a number from 0 to below 1."""
    if len(ids) == 1:
        return int(ids[0])
    cumulative = np.exp(log_weights).cumsum(dtype=np.float64)
    # Below the sum even where rounding says otherwise: the last ids may weigh nothing.
    target = min(uniform * cumulative[-1], np.nextafter(cumulative[-1], 0))
    return int(ids[int(cumulative.searchsorted(target, "right"))])
