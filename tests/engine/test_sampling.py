"""Sampling against a simple implementation, and frequencies of many draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.sampling.largest import largest
from server.engine.sampling.sampler import sample
from server.engine.sequence import Sequence
from server.engine.types import GenerationRequest, SamplingParams

VOCAB = 400


def sequence(params: SamplingParams, prompt: tuple[int, ...] = (0,), answer: tuple[int, ...] = ()) -> Sequence:
    made = Sequence(GenerationRequest(prompt, 5000, params), deliver=lambda event: None, queued_at=0.0)
    for token in answer:
        made.append(token)
    return made


def draw(logits: npt.NDArray[np.float32], *sequences: Sequence) -> list[int]:
    return [drawn[0] for drawn in sample(logits.copy(), sequences) if drawn is not None]


def allowed(logits: npt.NDArray[np.float32], params: SamplingParams) -> set[int]:
    """Return the ids left by the filters, in the order top_k, top_p, min_p."""
    scaled = logits.astype(np.float64) / params.temperature
    probabilities = np.exp(scaled - scaled.max())
    order = np.argsort(-probabilities, kind="stable")
    if params.top_k:
        order = order[: params.top_k]
    cumulative = np.cumsum(probabilities[order]) / probabilities[order].sum()
    order = order[: int((cumulative < params.top_p).sum()) + 1]
    return {int(i) for i in order if probabilities[i] >= params.min_p * probabilities.max() * (1 - 1e-9)}


@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.1, 2),
    top_k=st.sampled_from([0, 1, 5, 350, 1000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    vocab=st.sampled_from([VOCAB, 3001]),
)
def test_only_ids_that_pass_every_filter_are_drawn(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, vocab: int
) -> None:
    params = SamplingParams(temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    logits = np.random.default_rng(seed).normal(0, 2, vocab).astype(np.float32)
    drawn = {draw(logits[None], s)[0] for s in [sequence(params)] for _ in range(40)}
    assert drawn <= allowed(logits, params)


@given(seed=st.integers(0, 1000), size=st.integers(1, 5000), levels=st.sampled_from([1, 2, 30, 10**6]), data=st.data())
def test_the_largest_values_of_a_row_are_found(seed: int, size: int, levels: int, data: st.DataObject) -> None:
    row = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)
    row[row == 0] = -np.inf
    count = data.draw(st.integers(1, size))
    ids = largest(row, count)
    assert np.all(np.diff(ids) > 0)
    assert sorted(row[ids].tolist()) == sorted(row.tolist())[-count:]


@pytest.mark.parametrize(
    "params", [SamplingParams(1.5, seed=1), SamplingParams(0.7, top_p=0.8, seed=2), SamplingParams(1, top_k=3, seed=3)]
)
def test_draws_have_the_frequencies_of_the_filtered_distribution(params: SamplingParams) -> None:
    logits = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -2.0], np.float32)
    drawing = sequence(params)
    counts = np.bincount([draw(logits[None], drawing)[0] for _ in range(4000)], minlength=6)
    keep = sorted(allowed(logits, params))
    expected = np.zeros(6)
    expected[keep] = np.exp(logits[keep] / params.temperature)
    np.testing.assert_allclose(counts / 4000, expected / expected.sum(), atol=0.03)


def test_temperature_zero_draws_the_likeliest_with_any_filter() -> None:
    logits = np.random.default_rng(0).normal(size=(1, VOCAB)).astype(np.float32)
    params = SamplingParams(temperature=0, top_k=3, top_p=0.1, min_p=0.3)
    assert draw(logits, sequence(params)) == [int(logits.argmax())]


@pytest.mark.parametrize("temperature", [1e-6, 1e-39, 5e-324])
@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1, "top_p": 0.9}])
def test_a_temperature_near_zero_draws_the_likeliest(temperature: float, filters: dict[str, float]) -> None:
    logits = np.random.default_rng(0).normal(size=(1, VOCAB)).astype(np.float32)
    assert draw(logits, sequence(SamplingParams(temperature, **filters))) == [int(logits.argmax())]


def test_the_repetition_penalty_covers_the_prompt_and_both_signs() -> None:
    logits = np.array([[3.0, 2.9, -1.0, 0.0]], np.float32)
    assert draw(logits, sequence(SamplingParams(0, repetition_penalty=1.1), prompt=(0,))) == [1]
    negative = np.array([[-1.0, -1.5]], np.float32)
    assert draw(negative, sequence(SamplingParams(0, repetition_penalty=2.0), prompt=(0,))) == [1]


def test_frequency_and_presence_penalties_count_the_answer_only() -> None:
    logits = np.array([[3.0, 2.0, 0.0]], np.float32)
    frequency = SamplingParams(0, frequency_penalty=0.6)
    assert draw(logits, sequence(frequency, prompt=(0, 0))) == [0]
    assert draw(logits, sequence(frequency, answer=(0,))) == [0]
    assert draw(logits, sequence(frequency, answer=(0, 0))) == [1]
    presence = SamplingParams(0, presence_penalty=1.5)
    assert draw(logits, sequence(presence, prompt=(0,))) == [0]
    assert draw(logits, sequence(presence, answer=(0,))) == [1]


def test_logit_bias_changes_draws() -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    assert draw(logits, sequence(SamplingParams(0, logit_bias={7: 5.0}))) == [7]
    assert draw(logits, sequence(SamplingParams(0, logit_bias={0: -100.0}))) == [1]


def test_a_row_draws_the_same_in_any_batch() -> None:
    logits = np.random.default_rng(1).normal(size=(5, VOCAB)).astype(np.float32)
    params = [SamplingParams(1 + i / 5, top_p=0.9, min_p=0.01, seed=i) for i in range(5)]
    together = draw(logits, *map(sequence, params))
    assert together == [draw(logits[i : i + 1], sequence(params[i]))[0] for i in range(5)]


def test_ids_at_minus_infinity_are_never_drawn() -> None:
    logits = np.full((1, VOCAB), -np.inf, np.float32)
    logits[0, 17] = -50
    for params in (SamplingParams(2), SamplingParams(2, top_k=5), SamplingParams(2, top_p=0.99), SamplingParams(0)):
        assert draw(logits, sequence(params)) == [17]


def test_the_nucleus_may_exceed_the_few_hundred_likeliest_ids() -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    flat = sequence(SamplingParams(1, top_p=0.99, seed=0))
    assert len({draw(logits, flat)[0] for _ in range(3000)}) > 300
