"""Draws the next token of every row of a batch.

The order is logit_bias, penalties, masks, temperature, top_k, top_p, min_p, draw. A row's token never depends on other
rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Rows

import numpy as np
import numpy.typing as npt

from server.engine.sampling.constraint import Bitmask, forbid
from server.engine.sampling.largest import largest
from server.engine.sampling.logprobs import Logits, likeliest, log_sum_exp, token_logprobs
from server.engine.sequence import Sequence
from server.engine.types import SamplingParams, TokenLogprobs

GREEDY_TEMPERATURE = 1e-5
"""Highest temperature at which the likeliest token is always drawn.

At this temperature, a token whose logit is 0.001 below the highest has e^-100 times the weight of the likeliest token.
"""

Ids = npt.NDArray[np.int64]
LogWeights = npt.NDArray[np.floating]


def sample(
    logits: Logits, sequences: Rows[Sequence], masks: Rows[Bitmask | None] = ()
) -> list[tuple[int, TokenLogprobs | None] | None]:
    """Draw one token for each row of `logits`.

    Returns one entry per row: the token and the requested log-probabilities, or None if no token is allowed.

    logits: float32 [sequences, vocab], modified in place; -inf excludes a token.
    masks: one mask or None per row; empty if no row has one.
    """
    scored = [i for i, s in enumerate(sequences) if s.request.sampling.top_logprobs is not None]
    raw_rows = {i: logits[i].copy() for i in scored}
    _apply_bias_and_penalties(logits, sequences)
    _forbid_tokens(logits, sequences, masks)
    best = logits.argmax(axis=1)
    tokens: list[int] = best.tolist()
    peaks = logits[np.arange(len(best)), best].astype(np.float64)
    drawable = np.flatnonzero(peaks > -np.inf).tolist()
    for i, ids, log_weights in _candidates(logits, [s.request.sampling for s in sequences], peaks, drawable):
        tokens[i] = _draw(ids, log_weights, sequences[i].rng.random())
    drawn: list[tuple[int, TokenLogprobs | None] | None] = [None] * len(sequences)
    for i in drawable:
        alternatives = sequences[i].request.sampling.top_logprobs
        drawn[i] = (tokens[i], None if alternatives is None else _logprobs(raw_rows[i], tokens[i], alternatives))
    return drawn


def _logprobs(row: Logits, token: int, alternatives: int) -> TokenLogprobs:
    return token_logprobs(row, log_sum_exp(row), token, likeliest(row, alternatives))


def _apply_bias_and_penalties(logits: Logits, sequences: Rows[Sequence]) -> None:
    repeating: list[tuple[int, Sequence]] = []
    for i, sequence in enumerate(sequences):
        params = sequence.request.sampling
        if params.logit_bias:
            logits[i, sequence.bias_ids] += sequence.biases
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
    """Apply the repetition penalty to prompt and answer tokens, in place.

    The penalty is that of Keskar et al. 2019 (CTRL), computed as in transformers.
    """
    ids = [sequence.seen for _, sequence in repeating]
    lengths = [len(seen) for seen in ids]
    at = np.repeat([i for i, _ in repeating], lengths), np.concatenate(ids)
    penalties = [sequence.request.sampling.repetition_penalty for _, sequence in repeating]
    penalty = np.repeat(np.array(penalties, np.float32), lengths)
    values = logits[at]
    logits[at] = np.where(values > 0, values / penalty, values * penalty)


def _forbid_tokens(logits: Logits, sequences: Rows[Sequence], masks: Rows[Bitmask | None]) -> None:
    """Set the logits of forbidden tokens to -inf, in place.

    In a row with a mask, these are the tokens outside it. In a row without one, they are the stop tokens, until the
    answer has `min_tokens` tokens.
    """
    for i, sequence in enumerate(sequences):
        mask = masks[i] if masks else None
        if mask is not None:
            forbid(logits[i], mask)
        elif sequence.generated < sequence.request.min_tokens:
            logits[i, list(sequence.request.stop_token_ids)] = -np.inf


def _candidates(
    logits: Logits, params: Rows[SamplingParams], peaks: npt.NDArray[np.float64], drawable: Rows[int]
) -> Iterator[tuple[int, Ids, LogWeights]]:
    """Yield (row, ids, log weights) for each row to draw from at random.

    These are the drawable rows with a temperature above GREEDY_TEMPERATURE. The ids are the tokens to draw from,
    ascending. Log weight: (logit - peak) / temperature.

    peaks: float64 [rows], the largest logit of each row.
    drawable: rows with an allowed token.
    """
    drawing = [i for i in drawable if params[i].temperature > GREEDY_TEMPERATURE]
    # min_p leaves only a few ids, so apply it first. This order gives the same result unless top_k is set.
    with_min_p = [i for i in drawing if params[i].min_p > 0 and params[i].top_k == 0]
    for i, ids, log_weights in _min_p_candidates(logits, params, peaks, with_min_p):
        if params[i].top_p < 1:
            total = _total_weight(logits[i], peaks[i], params[i].temperature)
            ids, log_weights = _nucleus(ids, log_weights, params[i].top_p * total)
        yield i, ids, log_weights
    for i in drawing:
        if params[i].min_p == 0 or params[i].top_k:
            yield i, *_filter_row(logits[i], params[i], peaks[i])


def _min_p_candidates(
    logits: Logits, params: Rows[SamplingParams], peaks: npt.NDArray[np.float64], rows: list[int]
) -> Iterator[tuple[int, Ids, LogWeights]]:
    """Apply min_p to all of `rows` at once.

    Yields (row, ids, log weights) like `_candidates`, but before top_p.
    """
    if not rows:
        return
    temperatures = np.array([params[i].temperature for i in rows])
    tops = peaks[rows]
    floors = tops + temperatures * np.log([params[i].min_p for i in rows])
    block = logits if len(rows) == len(logits) else logits[rows]
    # For two axes, np.nonzero takes some fifteen times as long.
    row_of, ids = np.divmod(np.flatnonzero(block >= floors.astype(np.float32)[:, None]), block.shape[1])
    log_weights = (block[row_of, ids].astype(np.float64) - tops[row_of]) / temperatures[row_of]
    begin = 0
    for i, count in zip(rows, np.bincount(row_of, minlength=len(rows)).tolist(), strict=True):
        yield i, ids[begin : begin + count], log_weights[begin : begin + count]
        begin += count


def _filter_row(row: Logits, params: SamplingParams, peak: float) -> tuple[Ids, LogWeights]:
    """Apply top_k, top_p and min_p to a row, and return ids and log weights.

    If none of them is set, returns all ids, even those with logit -inf.
    """
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
    """Return the ids of the `k` largest logits, sorted by id, without those at -inf.

    k: 0 for all.
    """
    ids = np.arange(len(row)) if k == 0 or k >= len(row) else largest(row, k)
    return ids[row[ids] > -np.inf]


def _total_weight(row: Logits, peak: float, temperature: float) -> float:
    """Return the sum of exp((logit - peak) / temperature) over a row.

    Each term is float32, with a relative error of 1e-7.
    """
    return float(np.exp((row - np.float32(peak)) * np.float32(1 / temperature)).sum(dtype=np.float64))


def _nucleus(ids: Ids, log_weights: LogWeights, needed: float) -> tuple[Ids, LogWeights]:
    """Return the ids and log weights in the nucleus (Holtzman et al. 2020).

    The nucleus holds the fewest likeliest ids whose total weight reaches `needed`.
    """
    weights = np.exp(log_weights)
    # The nucleus nearly always lies within the few hundred likeliest ids, so try to sort only those.
    count = min(256, len(ids))
    head = largest(log_weights, count)
    if weights[head].sum() < needed:
        head = np.arange(len(ids))
    order = head[np.argsort(-weights[head], kind="stable")]
    size = int(np.searchsorted(weights[order].cumsum(), needed)) + 1
    nucleus = np.sort(order[:size])
    return ids[nucleus], log_weights[nucleus]


def _draw(ids: Ids, log_weights: LogWeights, uniform: float) -> int:
    """Draw one of `ids` by inverse transform sampling.

    uniform: random number in [0, 1).
    """
    if len(ids) == 1:
        return int(ids[0])
    cumulative = np.exp(log_weights).cumsum(dtype=np.float64)
    # Rounding must not push the target up to the sum: the last ids may have weight 0.
    target = min(uniform * cumulative[-1], np.nextafter(cumulative[-1], 0))
    return int(ids[int(cumulative.searchsorted(target, "right"))])
