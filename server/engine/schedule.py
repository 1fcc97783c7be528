"""Chooses the next step of a free session.

The wide session uses all cores. It alternates decode batches with prefill chunks short enough for the ITL target. For a
long prompt, two narrow sessions take over, each with half the cores. One prefills while the other decodes, so streams
slow down but never stop. If nothing is decoding, the wide session prefills: a lone narrow one would waste half of the
cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from server.engine.cost_model import CostModel
from server.engine.observations import StepKind

MIN_CHUNK = 16
"""Minimum number of tokens in a chunk, except for the last one of a prompt.

Shorter chunks are hardly faster.
"""

LONG_PROMPT_CHUNKS = 8
"""Number of chunks above which a prompt is prefilled on a narrow session.

Each chunk is as long as the ITL target allows.
"""

UNMEASURED_CHUNK = 64
"""Number of tokens in a chunk until a prefill step has been timed."""


class Width(Enum):
    """The width of a session.

    WIDE: all threads; runs alone.
    NARROW: half of the threads; two such sessions run in parallel.
    """

    WIDE = "wide"
    NARROW = "narrow"


@dataclass(frozen=True, slots=True)
class RunningStep:
    """A step that a session is executing.

    rows: number of sequences in the step.
    started_at: start of the step, in monotonic seconds.
    """

    kind: StepKind
    width: Width
    rows: int
    started_at: float


@dataclass(frozen=True, slots=True)
class PendingPrompt:
    """The prefill work left for a prompt. It is an estimate until prefill starts.

    remaining: number of tokens left to prefill.
    total: number of tokens that were left when prefill started.
    """

    remaining: int
    total: int


@dataclass(frozen=True, slots=True)
class Load:
    """The scheduler's input: the work to choose from, and the running steps.

    decoding: number of sequences in the decode batch; 0 while a decode step is running.
    prompt: the most urgent prompt that can be prefilled now; None if there is none.
    last_kind: kind of the step that started last; None before the first step.
    """

    decoding: int = 0
    prompt: PendingPrompt | None = None
    running_steps: tuple[RunningStep, ...] = ()
    last_kind: StepKind | None = None

    @property
    def streams(self) -> int:
        """Number of decoding sequences, including those in a running step."""
        return self.decoding + sum(step.rows for step in self.running_steps if step.kind is StepKind.DECODE)


@dataclass(frozen=True, slots=True)
class Policy:
    """Parameters of the scheduler.

    wide: number of threads of the wide session.
    narrow: number of threads of each narrow session; None if there are no narrow sessions.
    max_chunk: maximum number of tokens in a prefill chunk.
    itl_target: target for the maximum time between two tokens of a stream, in seconds.
    """

    wide: int
    narrow: int | None
    max_chunk: int
    itl_target: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The scheduler's decision: decode the whole batch, or prefill a chunk of the most urgent prompt.

    tokens: length of the chunk.
    """

    kind: StepKind
    tokens: int = 0


def next_step(load: Load, width: Width, policy: Policy, costs: CostModel) -> StepPlan | None:
    """Return the next step for a free session of the given width.

    Returns None if the session should stay idle.
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
    prompt = load.prompt
    return prompt is not None and prompt.total > LONG_PROMPT_CHUNKS * _itl_chunk(load.streams, policy, costs)


def _plan_wide(load: Load, policy: Policy, costs: CostModel) -> StepPlan | None:
    if load.prompt is not None and not (load.decoding and load.last_kind is StepKind.PREFILL):
        chunk = _itl_chunk(load.decoding, policy, costs) if load.decoding else policy.max_chunk
        return StepPlan(StepKind.PREFILL, min(chunk, load.prompt.remaining))
    return StepPlan(StepKind.DECODE) if load.decoding else None


def _plan_narrow(load: Load, policy: Policy, costs: CostModel) -> StepPlan | None:
    running_kinds = {step.kind for step in load.running_steps}
    if load.decoding and StepKind.DECODE not in running_kinds:
        return StepPlan(StepKind.DECODE)
    if load.prompt is not None and StepKind.PREFILL not in running_kinds:
        assert policy.narrow is not None
        # Only more urgent prompts wait for this chunk, not streams, so it may take longer than the ITL target.
        chunk = _clamp_chunk(costs.max_count(StepKind.PREFILL, policy.narrow, 2 * policy.itl_target), policy)
        return StepPlan(StepKind.PREFILL, min(chunk, load.prompt.remaining))
    return None


def _itl_chunk(streams: int, policy: Policy, costs: CostModel) -> int:
    """Return the length of the longest chunk within the ITL target, in tokens.

    Streams wait for the chunk and for the decode step after it.

    streams: number of decoding sequences.
    """
    seconds = policy.itl_target - costs.seconds(StepKind.DECODE, policy.wide, streams)
    return _clamp_chunk(costs.max_count(StepKind.PREFILL, policy.wide, seconds), policy)


def _clamp_chunk(tokens: int | None, policy: Policy) -> int:
    """Limit a chunk to MIN_CHUNK .. `policy.max_chunk` tokens.

    tokens: wanted length; None for UNMEASURED_CHUNK.
    """
    return min(max(UNMEASURED_CHUNK if tokens is None else tokens, MIN_CHUNK), policy.max_chunk)
