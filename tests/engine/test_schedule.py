"""Decisions of the scheduler, on plain numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.engine.cost_model import CostModel
from server.engine.observations import StepKind
from server.engine.schedule import Load, PendingPrompt, Policy, RunningStep, StepPlan, Width, next_step

DECODE = StepPlan(StepKind.DECODE)
WIDE_ONLY = Policy(wide=2, narrow=None, max_chunk=256, itl_target=1.0)
POOL = replace(WIDE_ONLY, narrow=1)


@pytest.fixture
def costs() -> CostModel:
    """Steps take 50 ms plus 10 ms per row or token; with one thread, twice that."""
    model = CostModel()
    for threads, factor in ((2, 1), (1, 2)):
        for n in (1, 4, 16, 64):
            model.observe(StepKind.DECODE, threads, n, factor * (0.05 + 0.01 * n))
            model.observe(StepKind.PREFILL, threads, n, factor * (0.05 + 0.01 * n))
    return model


def prefill(tokens: int) -> StepPlan:
    return StepPlan(StepKind.PREFILL, tokens)


def pending(tokens: int) -> PendingPrompt:
    """A prompt whose prefill has not started."""
    return PendingPrompt(tokens, tokens)


def running(kind: StepKind, width: Width, rows: int = 1) -> RunningStep:
    return RunningStep(kind, width, rows, 0.0)


def test_no_step_without_work(costs: CostModel) -> None:
    assert next_step(Load(), Width.WIDE, WIDE_ONLY, costs) is None


def test_without_streams_a_prompt_is_prefilled_in_the_longest_chunks(costs: CostModel) -> None:
    assert next_step(Load(prompt=pending(1000)), Width.WIDE, WIDE_ONLY, costs) == prefill(256)
    assert next_step(Load(prompt=pending(100)), Width.WIDE, WIDE_ONLY, costs) == prefill(100)


def test_prefill_and_decode_alternate(costs: CostModel) -> None:
    after_decode, after_prefill = (Load(3, pending(20), last_kind=kind) for kind in (StepKind.DECODE, StepKind.PREFILL))
    assert next_step(after_decode, Width.WIDE, WIDE_ONLY, costs) == prefill(20)
    assert next_step(after_prefill, Width.WIDE, WIDE_ONLY, costs) == DECODE


def test_with_streams_a_chunk_fits_the_itl_target(costs: CostModel) -> None:
    assert next_step(Load(5, pending(1000)), Width.WIDE, WIDE_ONLY, costs) == prefill(85)  # 1 - 0.1 = 0.05 + 85 * 0.01
    impatient = replace(WIDE_ONLY, itl_target=0.01)
    assert next_step(Load(5, pending(1000)), Width.WIDE, impatient, costs) == prefill(16)


def test_without_timings_chunks_have_the_default_size() -> None:
    assert next_step(Load(5, pending(1000)), Width.WIDE, WIDE_ONLY, CostModel()) == prefill(64)


def test_a_long_prompt_is_prefilled_in_parallel_with_the_streams(costs: CostModel) -> None:
    load = Load(5, pending(1000))
    assert next_step(load, Width.WIDE, POOL, costs) is None
    assert next_step(load, Width.NARROW, POOL, costs) == DECODE
    decoding = Load(0, pending(1000), (running(StepKind.DECODE, Width.NARROW, 5),))
    assert next_step(decoding, Width.NARROW, POOL, costs) == prefill(95)  # 2 = 2 * (0.05 + 95 * 0.01)
    both = replace(decoding, running_steps=(*decoding.running_steps, running(StepKind.PREFILL, Width.NARROW)))
    assert next_step(both, Width.NARROW, POOL, costs) is None


def test_the_rest_of_a_long_prompt_stays_on_a_narrow_session(costs: CostModel) -> None:
    load = Load(5, PendingPrompt(remaining=20, total=1000), (running(StepKind.DECODE, Width.NARROW, 5),))
    assert next_step(load, Width.NARROW, POOL, costs) == prefill(20)


def test_a_short_prompt_is_prefilled_between_two_tokens_on_the_wide_session(costs: CostModel) -> None:
    load = Load(5, pending(500), last_kind=StepKind.DECODE)
    assert next_step(load, Width.NARROW, POOL, costs) is None
    assert next_step(load, Width.WIDE, POOL, costs) == prefill(85)


def test_wide_and_narrow_sessions_never_run_at_once(costs: CostModel) -> None:
    wide = Load(0, pending(1000), (running(StepKind.DECODE, Width.WIDE, 5),))
    assert next_step(wide, Width.NARROW, POOL, costs) is None
    narrow = Load(5, None, (running(StepKind.PREFILL, Width.NARROW),))
    assert next_step(narrow, Width.WIDE, POOL, costs) is None
    assert next_step(narrow, Width.NARROW, POOL, costs) == DECODE


def test_without_streams_even_a_long_prompt_uses_the_wide_session(costs: CostModel) -> None:
    assert next_step(Load(prompt=pending(4000)), Width.WIDE, POOL, costs) == prefill(256)
    assert next_step(Load(prompt=pending(4000)), Width.NARROW, POOL, costs) is None


def test_forced_tokens_are_prefilled_only_if_few_sequences_decode(costs: CostModel) -> None:
    alone, crowd = costs.min_forced_tokens(2, 1), costs.min_forced_tokens(2, 16)
    assert alone == pytest.approx(1)  # 0.05 / (0.06 - 0.01)
    assert crowd > 100
    assert CostModel().min_forced_tokens(2, 1) == float("inf")
