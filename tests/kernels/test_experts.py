"""The expert block and its router against float64, and their independence of the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.reference import Direct, expert_block, top_softmax

SIZES = [(8, 2, 128, 128), (4, 4, 96, 40), (32, 4, 256, 224), (3, 1, 33, 65)]  # experts, chosen, hidden, inner


@pytest.mark.parametrize(("experts", "chosen", "hidden", "inner"), SIZES)
@pytest.mark.parametrize(("bits", "zeros"), [(4, False), (4, True), (8, True)])
def test_the_block_is_the_gated_sum_of_its_experts(
    direct: Direct,
    isa: str,
    rng: np.random.Generator,
    experts: int,
    chosen: int,
    hidden: int,
    inner: int,
    bits: int,
    zeros: bool,
) -> None:
    block = expert_block(rng, experts, chosen, hidden, inner, bits=bits, zeros=zeros)
    for rows in (1, 2, 5, 33):
        x = (rng.standard_normal((rows, hidden)) / 4).astype(np.float32)
        logits = rng.standard_normal((rows, experts)).astype(np.float32)
        y, expected = direct.experts(block, x, logits, isa), block.reference(x, logits)
        # Inner values that fall between two int8 steps may round either way.
        assert np.sqrt(np.mean((y - expected) ** 2)) < 0.004 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("hidden", "inner"), [(96, 40), (33, 65)])
def test_biases_are_added_before_the_gate_and_before_the_sum(
    direct: Direct, isa: str, rng: np.random.Generator, bits: int, hidden: int, inner: int
) -> None:
    block = expert_block(rng, 4, 2, hidden, inner, bits=bits)
    up_bias = rng.standard_normal((4, 2 * inner)).astype(np.float32)
    down_bias = rng.standard_normal((4, hidden)).astype(np.float32)
    for biases in ({"up_bias": up_bias}, {"down_bias": down_bias}, {"up_bias": up_bias, "down_bias": down_bias}):
        biased = replace(block, **biases)
        x = (rng.standard_normal((5, hidden)) / 4).astype(np.float32)
        logits = rng.standard_normal((5, 4)).astype(np.float32)
        y, expected = direct.experts(biased, x, logits, isa), biased.reference(x, logits)
        assert np.sqrt(np.mean((y - expected) ** 2)) < 0.004 * np.sqrt(np.mean(expected**2))


def test_a_row_has_the_same_bits_alone_and_among_others(direct: Direct, isa: str, rng: np.random.Generator) -> None:
    block = expert_block(rng, 8, 3, 160, 96, zeros=True)
    x = rng.standard_normal((200, 160)).astype(np.float32)
    logits = rng.standard_normal((200, 8)).astype(np.float32)
    alone = np.concatenate([direct.experts(block, x[i : i + 1], logits[i : i + 1], isa) for i in range(len(x))])
    for rows in (2, 3, 7, 16, 200):
        np.testing.assert_array_equal(direct.experts(block, x[:rows], logits[:rows], isa), alone[:rows])


def test_an_expert_with_more_rows_than_a_tile_takes(direct: Direct, isa: str, rng: np.random.Generator) -> None:
    block = expert_block(rng, 2, 1, 64, 32)
    x = rng.standard_normal((300, 64)).astype(np.float32)
    logits = np.zeros((300, 2), np.float32)  # equal: the first is chosen
    y, expected = direct.experts(block, x, logits, isa), block.reference(x, logits)
    assert np.sqrt(np.mean((y - expected) ** 2)) < 0.004 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("where", ["x", "logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_value_breaks_its_row_and_no_other(
    direct: Direct, isa: str, rng: np.random.Generator, where: str, value: float
) -> None:
    block = expert_block(rng, 4, 2, 64, 64)
    x = rng.standard_normal((5, 64)).astype(np.float32)
    logits = rng.standard_normal((5, 4)).astype(np.float32)
    whole = direct.experts(block, x, logits, isa)
    (x if where == "x" else logits)[2, 1] = value
    y = direct.experts(block, x, logits, isa)
    assert np.isnan(y[2]).all()
    np.testing.assert_array_equal(np.delete(y, 2, axis=0), np.delete(whole, 2, axis=0))


def test_logits_as_good_as_minus_infinity_are_never_weighed(direct: Direct, isa: str, rng: np.random.Generator) -> None:
    block = expert_block(rng, 4, 2, 32, 32)
    logits = np.full((1, 4), np.finfo(np.float32).min)
    logits[0, 3] = -1
    x = rng.standard_normal((1, 32)).astype(np.float32)
    sure = np.full((1, 4), -1e30, np.float32)
    sure[0, 3] = 5
    np.testing.assert_array_equal(direct.experts(block, x, logits, isa), direct.experts(block, x, sure, isa))


@pytest.mark.parametrize(("experts", "chosen", "hidden"), [(32, 4, 2048), (8, 2, 192), (5, 3, 33), (12, 3, 33)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_router_weighs_the_chosen_by_their_sigmoids(
    direct: Direct, isa: str, rng: np.random.Generator, experts: int, chosen: int, hidden: int, has_bias: bool
) -> None:
    weights = (rng.standard_normal((experts, hidden)) / np.sqrt(hidden)).astype(np.float32)
    bias = rng.standard_normal(experts).astype(np.float32) if has_bias else None
    x = (3 * rng.standard_normal((40, hidden))).astype(np.float32)
    scores = 1 / (1 + np.exp(-(x.astype(np.float64) @ weights.T)))
    ranked = scores if bias is None else scores + bias
    kept = np.argsort(-ranked, axis=1)[:, :chosen]
    expected = np.zeros_like(scores)
    np.put_along_axis(expected, kept, np.take_along_axis(scores, kept, axis=1), axis=1)
    logits = direct.router(weights, bias, chosen, x, isa)
    weights_of = top_softmax(logits, chosen)
    np.testing.assert_allclose(weights_of, expected / expected.sum(axis=1, keepdims=True), rtol=3e-5, atol=1e-9)
    alone = np.concatenate([direct.router(weights, bias, chosen, x[i : i + 1], isa) for i in range(len(x))])
    np.testing.assert_array_equal(logits, alone)


def test_the_router_without_a_choice_gives_scores(direct: Direct, isa: str, rng: np.random.Generator) -> None:
    weights, x = rng.standard_normal((7, 50)).astype(np.float32), rng.standard_normal((9, 50)).astype(np.float32)
    np.testing.assert_allclose(direct.router(weights, None, 0, x, isa), x @ weights.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [200.0, -200.0])
def test_saturated_scores_stay_numbers(direct: Direct, isa: str, scale: float) -> None:
    weights, x = np.full((4, 8), scale, np.float32), np.ones((1, 8), np.float32)
    logits = direct.router(weights, None, 2, x, isa)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(top_softmax(logits, 2)[0, :2], 0.5)
