"""What the scheduler decides, on plain numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.engine.cost_model import CostModel
from server.engine.observations import StepKind
from server.engine.schedule import Flight, Load, Policy, Prompt, Step, Width, next_step

DECODE = Step(StepKind.DECODE)
WIDE_ONLY = Policy(wide=2, narrow=None, max_chunk=256, itl_target=1.0)
POOL = replace(WIDE_ONLY, narrow=1)


@pytest.fixture
def costs() -> CostModel:
    """Decode takes 50 ms and 10 ms a row, prefill 50 ms and 10 ms a token; with one thread twice as much."""
    model = CostModel()
    for threads, factor in ((2, 1), (1, 2)):
        for n in (1, 4, 16, 64):
            model.observe(StepKind.DECODE, threads, n, factor * (0.05 + 0.01 * n))
            model.observe(StepKind.PREFILL, threads, n, factor * (0.05 + 0.01 * n))
    return model


def prefill(tokens: int) -> Step:
    return Step(StepKind.PREFILL, 0, tokens)


def whole(*tokens: int) -> tuple[Prompt, ...]:
    """Prompts of which nothing is read."""
    return tuple(Prompt(count, count) for count in tokens)


def flight(kind: StepKind, width: Width, rows: int = 1) -> Flight:
    return Flight(kind, width, rows, 0.0)


def test_nothing_waits_so_nothing_is_done(costs: CostModel) -> None:
    assert next_step(Load(), Width.WIDE, WIDE_ONLY, costs) is None


def test_a_prompt_with_no_streams_beside_it_is_taken_in_the_longest_chunks(costs: CostModel) -> None:
    assert next_step(Load(prompts=whole(1000)), Width.WIDE, WIDE_ONLY, costs) == prefill(256)
    assert next_step(Load(prompts=whole(100, 300)), Width.WIDE, WIDE_ONLY, costs) == prefill(100)


def test_prompts_and_streams_take_turns(costs: CostModel) -> None:
    after_decode, after_prefill = (Load(3, whole(20), last=kind) for kind in (StepKind.DECODE, StepKind.PREFILL))
    assert next_step(after_decode, Width.WIDE, WIDE_ONLY, costs) == prefill(20)
    assert next_step(after_prefill, Width.WIDE, WIDE_ONLY, costs) == DECODE


def test_a_chunk_between_two_tokens_takes_as_long_as_streams_may_wait(costs: CostModel) -> None:
    assert next_step(Load(5, whole(1000)), Width.WIDE, WIDE_ONLY, costs) == prefill(85)  # 1 - 0.1 = 0.05 + 85 * 0.01
    impatient = replace(WIDE_ONLY, itl_target=0.01)
    assert next_step(Load(5, whole(1000)), Width.WIDE, impatient, costs) == prefill(16)


def test_before_anything_was_timed_chunks_are_of_moderate_size() -> None:
    assert next_step(Load(5, whole(1000)), Width.WIDE, WIDE_ONLY, CostModel()) == prefill(64)


def test_a_long_prompt_is_read_beside_the_streams(costs: CostModel) -> None:
    load = Load(5, whole(1000))
    assert next_step(load, Width.WIDE, POOL, costs) is None
    assert next_step(load, Width.NARROW, POOL, costs) == DECODE
    decoding = Load(0, whole(1000), (flight(StepKind.DECODE, Width.NARROW, 5),))
    assert next_step(decoding, Width.NARROW, POOL, costs) == prefill(95)  # 2 = 2 * (0.05 + 95 * 0.01)
    both = replace(decoding, flights=(*decoding.flights, flight(StepKind.PREFILL, Width.NARROW)))
    assert next_step(both, Width.NARROW, POOL, costs) is None


def test_the_rest_of_a_long_prompt_is_read_beside_the_streams_too(costs: CostModel) -> None:
    load = Load(5, (Prompt(left=20, whole=1000),), (flight(StepKind.DECODE, Width.NARROW, 5),))
    assert next_step(load, Width.NARROW, POOL, costs) == prefill(20)


def test_a_short_prompt_is_read_between_two_tokens_with_all_cores(costs: CostModel) -> None:
    load = Load(5, whole(500), last=StepKind.DECODE)
    assert next_step(load, Width.NARROW, POOL, costs) is None
    assert next_step(load, Width.WIDE, POOL, costs) == prefill(85)


def test_wide_and_narrow_sessions_never_run_at_once(costs: CostModel) -> None:
    wide = Load(0, whole(1000), (flight(StepKind.DECODE, Width.WIDE, 5),))
    assert next_step(wide, Width.NARROW, POOL, costs) is None
    narrow = Load(5, (), (flight(StepKind.PREFILL, Width.NARROW),))
    assert next_step(narrow, Width.WIDE, POOL, costs) is None
    assert next_step(narrow, Width.NARROW, POOL, costs) == DECODE


def test_a_prompt_alone_is_read_with_all_cores_however_long(costs: CostModel) -> None:
    assert next_step(Load(prompts=whole(4000)), Width.WIDE, POOL, costs) == prefill(256)
    assert next_step(Load(prompts=whole(4000)), Width.NARROW, POOL, costs) is None


def test_tokens_known_ahead_pay_where_few_others_wait(costs: CostModel) -> None:
    alone, crowd = costs.least_forced(2, 1), costs.least_forced(2, 16)
    assert alone == pytest.approx(1)  # 0.05 / (0.06 - 0.01)
    assert crowd > 100
    assert CostModel().least_forced(2, 1) == float("inf")
