"""A step with all it needs: begun under the engine's lock, carried out without it, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.engine.engine_state import EngineState
from server.engine.observations import StepKind
from server.engine.prefix_cache import Match
from server.engine.sampling.draw import Draw
from server.engine.schedule import Flight, Width
from server.engine.sequence import CHECKPOINT_INTERVAL, Event, Sequence
from server.engine.types import FinishReason, PromptLogprobs, PromptProgress, TokenEvent
from server.errors import LfmServeError
from server.runtime.snapshots import Snapshot

Outcome = tuple[Sequence, Event]


@dataclass(frozen=True, slots=True)
class Work:
    """`tokens` [B, S] of `sequences` and how much is `past` [B], in slots `first` .. first+B-1.

    `restore` is what the cache has of a prompt that is begun with this step, None for a later step. After one that
    `reaches_end` nothing that is known is left to compute.
    """

    flight: Flight
    sequences: list[Sequence]
    first: int
    tokens: npt.NDArray[np.int64]
    past: npt.NDArray[np.int64]
    reaches_end: bool = True
    restore: Match | None = None

    @property
    def kind(self) -> StepKind:
        return self.flight.kind

    @property
    def draws(self) -> bool:
        """Whether a token is to be drawn at the end."""
        return self.reaches_end and self.sequences[0].request.max_tokens > 0

    @property
    def scores(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are asked for."""
        first = self.sequences[0]
        return first.request.prompt_logprobs is not None and not first.generated

    @property
    def starts(self) -> bool:
        """Whether nothing of its sequence has been computed before."""
        return self.restore is not None and self.flight.begun == self.sequences[0].started_at


@dataclass(frozen=True, slots=True)
class Result:
    """What a step brought: `draws` for each of its sequences if it draws, and state worth keeping.

    `snapshots`: a sequence, its number of tokens, and the state of those since the one before.
    """

    draws: list[list[Draw] | LfmServeError]
    snapshots: list[tuple[Sequence, int, Snapshot]]
    run_seconds: float


def begin_decode(state: EngineState, width: Width) -> Work:
    """All sequences of the decode batch go on by a token."""
    sequences = list(state.decoding)
    tokens = np.array([[s.tokens[s.computed]] for s in sequences], np.int64)
    past = np.array([s.computed for s in sequences], np.int64)
    return Work(_take_off(state, StepKind.DECODE, width, sequences), sequences, 0, tokens, past)


def begin_prefill(state: EngineState, width: Width, sequence: Sequence, count: int) -> Work:
    """At most `count` more tokens of a prompt are read."""
    flight = _take_off(state, StepKind.PREFILL, width, [sequence])
    restore = None if sequence.begun else _begin_prompt(state, sequence, flight.begun)
    count = min(count, sequence.remaining)
    assert sequence.slot is not None
    tokens = sequence.tokens[None, sequence.computed : sequence.computed + count]
    past = np.array([sequence.computed], np.int64)
    return Work(flight, [sequence], sequence.slot, tokens, past, sequence.remaining == count, restore)


def decoded_checkpoints(work: Work) -> Iterator[tuple[Sequence, int]]:
    """The sequences of a decode step whose state after it, of so many tokens, is worth keeping."""
    for sequence, past in zip(work.sequences, work.past.tolist(), strict=True):
        if (past + 1) % CHECKPOINT_INTERVAL == 0:
            yield sequence, past + 1


def outcomes(work: Work, result: Result) -> Iterator[Outcome]:
    """What the step's sequences get, but for those cancelled meanwhile. Takes the drawn tokens into them."""
    first = work.sequences[0]
    now = time.monotonic()
    if work.kind is StepKind.PREFILL and first.request.report_progress and not first.cancelled and not first.generated:
        yield first, progress(first, now)
    if work.scores and work.reaches_end and not first.cancelled:
        finish = None if work.draws else FinishReason.LENGTH
        yield first, PromptLogprobs(tuple(first.prompt_logprobs), finish)
    for sequence, draws in zip(work.sequences, result.draws, strict=False):
        if sequence.cancelled:
            continue
        if isinstance(draws, LfmServeError):
            yield sequence, draws
            continue
        sequence.last_token_at = now
        for token, logprobs in draws:
            finish = sequence.append(token)
            yield sequence, TokenEvent(token, logprobs, finish)
            if finish is not None:
                break


def progress(sequence: Sequence, now: float) -> PromptProgress:
    """How far the prompt is."""
    processed = min(sequence.computed, sequence.prompt_length)
    return PromptProgress(sequence.prompt_length, sequence.cached, processed, now - sequence.started_at)


def _take_off(state: EngineState, kind: StepKind, width: Width, sequences: list[Sequence]) -> Flight:
    for sequence in sequences:
        sequence.in_flight = True
    flight = Flight(kind, width, len(sequences), time.monotonic())
    state.flights.append(flight)
    state.last = kind
    return flight


def _begin_prompt(state: EngineState, sequence: Sequence, now: float) -> Match:
    """Look the prompt up in the cache; at least its last token is computed, for its logits."""
    match = Match((), 0, 0)
    if sequence.request.prompt_logprobs is None:
        match = state.cache.match(sequence.tokens[: sequence.length - 1], sequence.request.context.cache_salt)
    sequence.begun, sequence.known = True, 0
    sequence.computed = sequence.saved = match.length
    sequence.to_read = sequence.remaining
    if match.branch > match.length:
        sequence.branches.add(match.branch)  # others have left it here, so more may
    if not sequence.started_at:
        sequence.started_at, sequence.cached = now, match.length
    return match
