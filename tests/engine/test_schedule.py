"""What the scheduler decides, on plain numbers."""

from __future__ import annotations

from server.engine.schedule import Load, Step, StepKind, next_step

DECODE = Step(StepKind.DECODE)


def test_nothing_waits_so_nothing_is_done() -> None:
    assert next_step(Load(0, (), None), 256) is None


def test_a_prompt_is_taken_in_chunks_of_bounded_size() -> None:
    assert next_step(Load(0, (1000,), None), 256) == Step(StepKind.PREFILL, 0, 256)
    assert next_step(Load(0, (100, 300), StepKind.PREFILL), 256) == Step(StepKind.PREFILL, 0, 100)


def test_prompts_and_streams_take_turns() -> None:
    assert next_step(Load(3, (1000,), StepKind.DECODE), 256) == Step(StepKind.PREFILL, 0, 256)
    assert next_step(Load(3, (1000,), StepKind.PREFILL), 256) == DECODE


def test_with_no_prompt_left_every_step_decodes() -> None:
    assert next_step(Load(3, (), StepKind.DECODE), 256) == DECODE
