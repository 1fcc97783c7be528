"""Decides what a free session does next: pure functions over plain numbers, so that they can be tested without a model.

Decode batches and prefill chunks take turns on the wide session, which has all cores: a chunk is as long as running
streams may wait between two tokens. A prompt of many chunks is read beside the streams instead, each on a narrow
session with half the cores: then they lose some pace for a while, and never stand still. Two narrow sessions do as much
as a wide one or more while both have work, and half as much while one has none, so only then are they used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from server.engine.cost_model import CostModel
from server.engine.observations import StepKind

MIN_CHUNK = 16
"""Tokens: shorter chunks take hardly less time than these."""

LONG = 8
"""Chunks from which on a prompt is read beside the streams."""

UNMEASURED_CHUNK = 64
"""Tokens of a chunk before any was timed."""


class Width(Enum):
    """WIDE sessions run alone, with all threads; NARROW ones side by side."""

    WIDE = "wide"
    NARROW = "narrow"


@dataclass(frozen=True, slots=True)
class Flight:
    """A step that a session is carrying out."""

    kind: StepKind
    width: Width
    rows: int
    begun: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """`left` tokens to read of a `whole`, which the cache did not have; both are estimates before it is begun."""

    left: int
    whole: int


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do besides what is in flight.

    `decoding`: sequences that wait for their next token (0 while a decode batch is in flight: it is one batch).
    `prompts`: those that are not done, the most urgent first. `last`: the kind of the step begun before this one.
    """

    decoding: int = 0
    prompts: tuple[Prompt, ...] = ()
    flights: tuple[Flight, ...] = ()
    last: StepKind | None = None

    @property
    def streams(self) -> int:
        """Sequences that decode, in flight or not."""
        return self.decoding + sum(flight.rows for flight in self.flights if flight.kind is StepKind.DECODE)


@dataclass(frozen=True, slots=True)
class Policy:
    """`wide` and `narrow` are the sessions' threads, `narrow` None where there are no two such sessions.

    Chunks are at most `max_chunk` tokens; streams wait at most about `itl_target` seconds between two tokens.
    """

    wide: int
    narrow: int | None
    max_chunk: int
    itl_target: float


@dataclass(frozen=True, slots=True)
class Step:
    """One decode of the whole batch, or `tokens` more of the prompt at `index` of `Load.prompts`."""

    kind: StepKind
    index: int = 0
    tokens: int = 0


def next_step(load: Load, width: Width, policy: Policy, costs: CostModel) -> Step | None:
    """The next step for a free session of `width`, or None when there is nothing for it to do."""
    beside = reads_beside(load, policy, costs)
    if width is Width.WIDE:
        return None if load.flights or beside else _step_alone(load, policy, costs)
    if not beside or any(flight.width is Width.WIDE for flight in load.flights):
        return None
    return _step_beside(load, policy, costs)


def reads_beside(load: Load, policy: Policy, costs: CostModel) -> bool:
    """Whether the next prompt is to be read on one narrow session while the streams decode on the other."""
    if policy.narrow is None or not load.streams:
        return False
    if any(flight.kind is StepKind.PREFILL and flight.width is Width.NARROW for flight in load.flights):
        return True
    # By the whole of it: its last chunks would hold up the streams like any others.
    return bool(load.prompts) and load.prompts[0].whole > LONG * _chunk_between(load.streams, policy, costs)


def _step_alone(load: Load, policy: Policy, costs: CostModel) -> Step | None:
    if load.prompts and not (load.decoding and load.last is StepKind.PREFILL):
        chunk = _chunk_between(load.decoding, policy, costs) if load.decoding else policy.max_chunk
        return Step(StepKind.PREFILL, 0, min(chunk, load.prompts[0].left))
    return Step(StepKind.DECODE) if load.decoding else None


def _step_beside(load: Load, policy: Policy, costs: CostModel) -> Step | None:
    flying = {flight.kind for flight in load.flights}
    if load.decoding and StepKind.DECODE not in flying:
        return Step(StepKind.DECODE)
    if load.prompts and StepKind.PREFILL not in flying:
        assert policy.narrow is not None
        # Nobody waits for it but a shorter prompt.
        chunk = _bounded(costs.most(StepKind.PREFILL, policy.narrow, 2 * policy.itl_target), policy)
        return Step(StepKind.PREFILL, 0, min(chunk, load.prompts[0].left))
    return None


def _chunk_between(streams: int, policy: Policy, costs: CostModel) -> int:
    """Tokens of a prompt that fit between two tokens of so many streams."""
    left = policy.itl_target - costs.seconds(StepKind.DECODE, policy.wide, streams)
    return _bounded(costs.most(StepKind.PREFILL, policy.wide, left), policy)


def _bounded(tokens: int | None, policy: Policy) -> int:
    return min(max(UNMEASURED_CHUNK if tokens is None else tokens, MIN_CHUNK), policy.max_chunk)
