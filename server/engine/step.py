"""Starts steps and turns their results into events.

Functions that take an EngineState need the engine's lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.engine.engine_state import EngineState
from server.engine.observations import StepKind
from server.engine.prefix_cache import Match
from server.engine.sampling.next_tokens import Draw
from server.engine.schedule import RunningStep, Width
from server.engine.sequence import CHECKPOINT_INTERVAL, Event, Sequence
from server.engine.types import FinishReason, PromptLogprobs, PromptProgress, TokenEvent
from server.errors import LfmServeError
from server.runtime.snapshots import Snapshot


class SequenceEvent(NamedTuple):
    """An event and its sequence."""

    sequence: Sequence
    event: Event


@dataclass(frozen=True, slots=True)
class Step:
    """The inputs of a step: B sequences with S tokens each.

    A decode step has S = 1, a prefill step B = 1.

    first_slot: slot of the first sequence; the others follow in order.
    tokens: int64 [B, S], the tokens to compute.
    past: int64 [B], number of tokens of each sequence computed before this step.
    reaches_end: whether the step includes each sequence's last known token, so that next tokens can be drawn.
    restore: cached state to load into the slot first; None if the slot already has the sequence's state.
    """

    running: RunningStep
    sequences: list[Sequence]
    first_slot: int
    tokens: npt.NDArray[np.int64]
    past: npt.NDArray[np.int64]
    reaches_end: bool = True
    restore: Match | None = None

    @property
    def kind(self) -> StepKind:
        """The kind of the step: decode or prefill."""
        return self.running.kind

    @property
    def draws_tokens(self) -> bool:
        """Whether the step draws a token for each sequence."""
        return self.reaches_end and self.sequences[0].request.max_tokens > 0

    @property
    def scores_prompt(self) -> bool:
        """Whether the step computes log-probabilities of prompt tokens."""
        first = self.sequences[0]
        return first.request.prompt_logprobs is not None and not first.generated

    @property
    def is_first(self) -> bool:
        """Whether this is the sequence's first step. A step after a preemption is not."""
        return self.restore is not None and self.running.started_at == self.sequences[0].started_at


@dataclass(frozen=True, slots=True)
class StepResult:
    """The results of a step that succeeded.

    draws: for each sequence, its tokens or the error that ends it; [] if the step draws no tokens.
    snapshots: (sequence, n, snapshot) triples; the snapshot ends after the first n tokens of the sequence.
    run_seconds: duration of the model's run.
    """

    draws: list[list[Draw] | LfmServeError]
    snapshots: list[tuple[Sequence, int, Snapshot]]
    run_seconds: float


def start_decode(state: EngineState, width: Width) -> Step:
    """Start a step that computes one token of every decoding sequence."""
    sequences = list(state.decoding)
    tokens = np.array([[s.tokens[s.computed]] for s in sequences], np.int64)
    past = np.array([s.computed for s in sequences], np.int64)
    return Step(_register(state, StepKind.DECODE, width, sequences), sequences, 0, tokens, past)


def start_prefill(state: EngineState, width: Width, sequence: Sequence, max_tokens: int) -> Step:
    """Start a step for the next chunk of a prompt, of at most `max_tokens` tokens."""
    running = _register(state, StepKind.PREFILL, width, [sequence])
    restore = None if sequence.prefill_started else _start_prompt(state, sequence, running.started_at)
    count = min(max_tokens, sequence.remaining)
    assert sequence.slot is not None
    tokens = sequence.tokens[None, sequence.computed : sequence.computed + count]
    past = np.array([sequence.computed], np.int64)
    return Step(running, [sequence], sequence.slot, tokens, past, sequence.remaining == count, restore)


def decode_checkpoints(step: Step) -> Iterator[tuple[int, Sequence, int]]:
    """Yield (row, sequence, n) for each row whose sequence reaches a checkpoint after n tokens.

    n is a multiple of CHECKPOINT_INTERVAL.
    """
    for row, (sequence, past) in enumerate(zip(step.sequences, step.past.tolist(), strict=True)):
        if (past + 1) % CHECKPOINT_INTERVAL == 0:
            yield row, sequence, past + 1


def sequence_events(step: Step, result: StepResult) -> Iterator[SequenceEvent]:
    """Append the drawn tokens to their sequences, and yield the events.

    Cancelled sequences are skipped.
    """
    first = step.sequences[0]
    now = time.monotonic()
    if step.kind is StepKind.PREFILL and first.request.report_progress and not first.cancelled and not first.generated:
        yield SequenceEvent(first, prompt_progress(first, now))
    if step.scores_prompt and step.reaches_end and not first.cancelled:
        finish = None if step.draws_tokens else FinishReason.LENGTH
        yield SequenceEvent(first, PromptLogprobs(tuple(first.prompt_logprobs), finish))
    for sequence, draws in zip(step.sequences, result.draws, strict=False):
        if sequence.cancelled:
            continue
        if isinstance(draws, LfmServeError):
            yield SequenceEvent(sequence, draws)
            continue
        sequence.last_token_at = now
        for token, logprobs in draws:
            finish = sequence.append(token)
            yield SequenceEvent(sequence, TokenEvent(token, now, logprobs, finish))
            if finish is not None:
                break


def prompt_progress(sequence: Sequence, now: float) -> PromptProgress:
    """Return the progress of the prompt at the monotonic time `now`."""
    processed = min(sequence.computed, sequence.prompt_length)
    return PromptProgress(sequence.prompt_length, sequence.cached, processed, now - sequence.started_at)


def _register(state: EngineState, kind: StepKind, width: Width, sequences: list[Sequence]) -> RunningStep:
    """Add a running step to the state, and mark its sequences as being in a step."""
    for sequence in sequences:
        sequence.in_step = True
    running = RunningStep(kind, width, len(sequences), time.monotonic())
    state.running_steps.append(running)
    state.last_kind = kind
    return running


def _start_prompt(state: EngineState, sequence: Sequence, now: float) -> Match:
    """Look up a sequence in the prefix cache, and mark its prefill as started.

    The last token is always computed, because its logits are needed. A prompt whose log-probabilities
    are wanted is computed whole.
    """
    match = Match((), 0, 0)
    if sequence.request.prompt_logprobs is None:
        match = state.cache.match(sequence.tokens[: sequence.length - 1], sequence.request.context.cache_salt)
    sequence.prefill_started, sequence.expected_cached = True, 0
    sequence.computed = sequence.saved = match.length
    sequence.prefill_total = sequence.remaining
    if match.branch > match.length:
        # A cached prompt diverges from this prompt here, so later prompts may diverge here, too.
        sequence.branch_points.add(match.branch)
    if state.disk is not None:
        state.disk.count_hit(sequence, match.length)
    if not sequence.started_at:
        sequence.started_at, sequence.cached = now, match.length
    return match
