"""Chooses the next step of a free session.

All functions are pure and take plain numbers, so tests of this module need no model.

The wide session uses all cores and alternates between decode batches and prefill chunks. Chunks are short, so that no
stream waits longer than the permitted time between two tokens. If a prompt needs many such chunks, two narrow sessions
with half of the cores each replace the wide session: one prefills the prompt while the other one decodes. Streams then
slow down for a while but never stop. Two busy narrow sessions together do at least as much work as the wide session,
but a single busy one does only half as much. The narrow sessions therefore run only if there is work for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from server.engine.cost_model import CostModel
from server.engine.observations import StepKind

MIN_CHUNK = 16
"""The minimum length of a chunk in tokens.

A shorter chunk takes hardly less time.
"""

LONG_PROMPT_CHUNKS = 8
"""The number of chunks above which a prompt is prefilled on a narrow session."""

UNMEASURED_CHUNK = 64
"""The length of a chunk, in tokens, while no prefill step has been timed."""


class Width(Enum):
    """The width of a session: how many threads it has.

    A WIDE session has all threads and runs alone. Each NARROW session has half of the threads, and two of them run in
    parallel.
    """

    WIDE = "wide"
    NARROW = "narrow"


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that a session is executing now.

    `rows`: number of sequences in the step.
    `started_at`: start of the step (monotonic clock, in seconds).
    """

    kind: StepKind
    width: Width
    rows: int
    started_at: float


@dataclass(frozen=True, slots=True)
class PendingPrompt:
    """The amount of prefill work for a prompt that is not fully prefilled.

    Both numbers are estimates until the prefill starts, because they depend on the content of the prefix cache.

    `remaining`: number of tokens that are still to be prefilled.
    `total`: number of tokens that remained when the prefill started.
    """

    remaining: int
    total: int


@dataclass(frozen=True, slots=True)
class Load:
    """The work to choose from and the steps that are already running.

    `decoding`: number of sequences in the decode batch; 0 while a decode step is running.
    `prompts`: prompts that are not fully prefilled and not part of a running step, the most urgent first.
    `running_steps`: steps that sessions are executing now.
    `last_kind`: kind of the step that started most recently.
    """

    decoding: int = 0
    prompts: tuple[PendingPrompt, ...] = ()
    running_steps: tuple[RunningStep, ...] = ()
    last_kind: StepKind | None = None

    @property
    def streams(self) -> int:
        """Number of decoding sequences, including those in a running step."""
        return self.decoding + sum(step.rows for step in self.running_steps if step.kind is StepKind.DECODE)


@dataclass(frozen=True, slots=True)
class Policy:
    """Fixed parameters of the scheduler.

    `wide`: number of threads of the wide session.
    `narrow`: number of threads of each narrow session; None if there are no narrow sessions.
    `max_chunk`: maximum number of tokens in a prefill chunk.
    `itl_target`: maximum number of seconds that a stream should wait between two tokens.
    """

    wide: int
    narrow: int | None
    max_chunk: int
    itl_target: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The scheduler's decision: decode the whole batch, or prefill one chunk.

    `prompt_index`: for a prefill, position in `Load.prompts` of the prompt.
    `tokens`: for a prefill, length of the chunk.
    """

    kind: StepKind
    prompt_index: int = 0
    tokens: int = 0


def next_step(load: Load, width: Width, policy: Policy, costs: CostModel) -> StepPlan | None:
    """Return the next step for a free session.

    `width`: width of the session.

    Returns None if there is no step for the session.
    """
    use_narrow = uses_narrow_sessions(load, policy, costs)
    if width is Width.WIDE:
        return None if load.running_steps or use_narrow else _plan_wide(load, policy, costs)
    if not use_narrow or any(step.width is Width.WIDE for step in load.running_steps):
        return None
    return _plan_narrow(load, policy, costs)


def uses_narrow_sessions(load: Load, policy: Policy, costs: CostModel) -> bool:
    """Return whether to prefill and decode in parallel on the narrow sessions."""
    if policy.narrow is None or not load.streams:
        return False
    if any(step.kind is StepKind.PREFILL and step.width is Width.NARROW for step in load.running_steps):
        return True
    # Compare the total, not the remaining tokens: on the wide session, the last chunks of the prompt would delay the
    # streams as much as the first ones.
    return bool(load.prompts) and load.prompts[0].total > LONG_PROMPT_CHUNKS * _itl_chunk(load.streams, policy, costs)


def _plan_wide(load: Load, policy: Policy, costs: CostModel) -> StepPlan | None:
    if load.prompts and not (load.decoding and load.last_kind is StepKind.PREFILL):
        chunk = _itl_chunk(load.decoding, policy, costs) if load.decoding else policy.max_chunk
        return StepPlan(StepKind.PREFILL, 0, min(chunk, load.prompts[0].remaining))
    return StepPlan(StepKind.DECODE) if load.decoding else None


def _plan_narrow(load: Load, policy: Policy, costs: CostModel) -> StepPlan | None:
    running_kinds = {step.kind for step in load.running_steps}
    if load.decoding and StepKind.DECODE not in running_kinds:
        return StepPlan(StepKind.DECODE)
    if load.prompts and StepKind.PREFILL not in running_kinds:
        assert policy.narrow is not None
        # Only more urgent prompts wait for this chunk, not streams, so it may take longer than the ITL target.
        chunk = _clamp_chunk(costs.max_count(StepKind.PREFILL, policy.narrow, 2 * policy.itl_target), policy)
        return StepPlan(StepKind.PREFILL, 0, min(chunk, load.prompts[0].remaining))
    return None


def _itl_chunk(streams: int, policy: Policy, costs: CostModel) -> int:
    """Return the length in tokens of the longest chunk within the ITL target.

    Streams wait for the chunk and for the decode step after it. Both together should take at most the target.

    `streams`: number of decoding sequences.
    """
    seconds = policy.itl_target - costs.seconds(StepKind.DECODE, policy.wide, streams)
    return _clamp_chunk(costs.max_count(StepKind.PREFILL, policy.wide, seconds), policy)


def _clamp_chunk(tokens: int | None, policy: Policy) -> int:
    """Limit the length of a chunk to MIN_CHUNK .. `policy.max_chunk` tokens.

    `tokens`: length of the chunk; None if no prefill step has been timed yet.
    """
    return min(max(UNMEASURED_CHUNK if tokens is None else tokens, MIN_CHUNK), policy.max_chunk)
