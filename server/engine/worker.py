"""Carries steps out: one thread for each session, all on one state. Decide, act, commit.

Deciding and committing happen under the lock and take microseconds; acting, the model's run and the draw, does not hold
it. A step touches only the sequences and slots that are in flight in it, and commits whole or not at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.engine.constraint import Bitmask, mask_words
from server.engine.logprobs import score
from server.engine.records import StepRecord
from server.engine.sampling import sample
from server.engine.schedule import StepKind, next_step
from server.engine.sequence import Event, Sequence, is_last
from server.engine.state import EngineState
from server.engine.types import FinishReason, PromptLogprobs, PromptProgress, TokenEvent, TokenLogprobs
from server.errors import LfmServeError, StepFailedError
from server.runtime.session import ModelSession

log = logging.getLogger(__name__)

Draw = tuple[int, TokenLogprobs | None]
Outcome = tuple[Sequence, Event]
HandOver = Callable[[list[Outcome]], None]
Observe = Callable[[StepRecord], None]


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """`prefill_chunk` is in tokens; `unknown_ids` are vocabulary ids the tokenizer has no text for."""

    prefill_chunk: int
    unknown_ids: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """A step with its sequences: `tokens` [B, S] and how much is `past` [B], in slots `first` .. first+B-1.

    `begun` is a time of the monotonic clock; after a step that `reaches_end` nothing that is known is left to compute.
    """

    kind: StepKind
    sequences: list[Sequence]
    first: int
    tokens: npt.NDArray[np.int64]
    past: npt.NDArray[np.int64]
    begun: float
    reaches_end: bool

    @property
    def starts(self) -> bool:
        """Whether nothing of its sequence has been computed before."""
        return self.kind is StepKind.PREFILL and self.begun == self.sequences[0].started_at

    @property
    def draws(self) -> bool:
        """Whether a token is to be drawn at that end."""
        return self.reaches_end and self.sequences[0].request.max_tokens > 0

    @property
    def scores(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are asked for."""
        return self.kind is StepKind.PREFILL and self.sequences[0].request.prompt_logprobs is not None


class Worker:
    """Runs steps on one session until `state` is closed. `hand_over` gets what each step produced, once a step."""

    def __init__(
        self,
        session: ModelSession,
        state: EngineState,
        wake: threading.Condition,
        closing: threading.Event,
        config: WorkerConfig,
        hand_over: HandOver,
        observe: Observe,
    ) -> None:
        self._session = session
        self._state = state
        self._wake = wake
        self._closing = closing
        self._config = config
        self._hand_over = hand_over
        self._observe = observe
        self._run_seconds = 0.0

    def run(self) -> None:
        """The loop of the worker's thread."""
        while (work := self._decide()) is not None:
            if work.starts:
                self._hand_over([(work.sequences[0], _progress(work.sequences[0], work.begun))])
            last_tokens_at = [s.last_token_at for s in work.sequences]
            try:
                draws = self._act(work)
            except Exception:
                log.exception("A %s step of %d sequences failed.", work.kind, len(work.sequences))
                outcomes = self._abandon(work)
                failed = True
            else:
                outcomes = self._commit(work, draws)
                failed = False
            if outcomes:
                self._hand_over(outcomes)
            self._record(work, last_tokens_at, failed)

    def _record(self, work: Work, last_tokens_at: list[float], failed: bool) -> None:
        now = time.monotonic()
        intervals = tuple(now - at for at in last_tokens_at if at) if work.kind is StepKind.DECODE else ()
        tokens, threads = work.tokens.size, self._session.threads
        seconds, batch = now - work.begun, len(work.sequences)
        self._observe(StepRecord(work.kind, threads, batch, tokens, seconds, self._run_seconds, intervals, failed))

    def _decide(self) -> Work | None:
        """Wait for something to do and mark it in flight; None when the engine closes."""
        with self._wake:
            while not self._closing.is_set():
                self._state.settle()
                step = next_step(self._state.load(), self._config.prefill_chunk)
                if step is not None:
                    self._state.last = step.kind
                    if step.kind is StepKind.DECODE:
                        return self._begin_decode()
                    return self._begin_prefill(self._state.prompts()[step.index], step.tokens)
                self._wake.wait()
        return None

    def _begin_decode(self) -> Work:
        sequences = list(self._state.decoding)
        self._state.decode_in_flight = True
        for sequence in sequences:
            sequence.in_flight = True
        tokens = np.array([[s.tokens[s.computed]] for s in sequences], np.int64)
        past = np.array([s.computed for s in sequences], np.int64)
        return Work(StepKind.DECODE, sequences, 0, tokens, past, time.monotonic(), True)

    def _begin_prefill(self, sequence: Sequence, count: int) -> Work:
        assert sequence.slot is not None
        sequence.in_flight = True
        now = time.monotonic()
        sequence.started_at = sequence.started_at or now
        tokens = sequence.tokens[None, sequence.computed : sequence.computed + count]
        past, reaches_end = np.array([sequence.computed], np.int64), sequence.remaining == count
        return Work(StepKind.PREFILL, [sequence], sequence.slot, tokens, past, now, reaches_end)

    def _act(self, work: Work) -> list[Draw | LfmServeError]:
        """Run the model and draw. What goes wrong in one row, a NaN or a grammar's end, is that sequence's alone."""
        before = time.monotonic()
        logits = self._session.run(self._state.slots, work.first, work.tokens, work.past, work.scores)
        self._run_seconds = time.monotonic() - before
        if work.scores:
            _score(work.sequences[0], logits)
            logits = logits[-1:]
        if not work.draws:
            return []
        finite = np.isfinite(logits.max(axis=1))
        logits[:, self._config.unknown_ids] = -np.inf
        not_finite = StepFailedError("The model gave no finite logits for this request.")
        draws: list[Draw | LfmServeError] = [not_finite] * len(work.sequences)
        rows: list[int] = []
        masks: list[Bitmask | None] = []
        for i in map(int, np.flatnonzero(finite)):
            try:
                masks.append(_mask(work.sequences[i], logits.shape[1]))
                rows.append(i)
            except LfmServeError as error:
                draws[i] = error
        sequences = [work.sequences[i] for i in rows]
        drawn = sample(logits if len(rows) == len(draws) else logits[rows], sequences, masks)
        for i, draw in zip(rows, drawn, strict=True):
            draws[i] = _commit_to_constraint(work.sequences[i], draw)
        return draws

    def _commit(self, work: Work, draws: list[Draw | LfmServeError]) -> list[Outcome]:
        """Take the step's tokens into the state; sequences that end or were cancelled meanwhile leave."""
        outcomes: list[Outcome] = []
        with self._wake:
            self._land(work)
            for sequence in work.sequences:
                sequence.computed += work.tokens.shape[1]
            outcomes += _outcomes(work, draws)
            for sequence, event in outcomes:
                if is_last(event):
                    self._state.leave(sequence)
            self._state.settle()
            self._wake.notify_all()
        return outcomes

    def _abandon(self, work: Work) -> list[Outcome]:
        """A failed step takes its own sequences with it; nobody else's state was touched."""
        error = StepFailedError("The model failed on this request; the server's log has the cause.")
        with self._wake:
            self._land(work)
            outcomes: list[Outcome] = [(s, error) for s in work.sequences if not s.cancelled]
            for sequence in work.sequences:
                self._state.leave(sequence)
            self._wake.notify_all()
        return outcomes

    def _land(self, work: Work) -> None:
        for sequence in work.sequences:
            sequence.in_flight = False
        if work.kind is StepKind.DECODE:
            self._state.decode_in_flight = False


def _mask(sequence: Sequence, vocab_size: int) -> Bitmask | None:
    constraint = sequence.request.constraint
    if constraint is None:
        return None
    mask = np.empty(mask_words(vocab_size), np.int32)
    return mask if constraint.mask(mask) else None


def _commit_to_constraint(sequence: Sequence, draw: Draw) -> Draw | LfmServeError:
    if sequence.request.constraint is not None:
        try:
            sequence.request.constraint.commit(draw[0])
        except LfmServeError as error:
            return error
    return draw


def _score(sequence: Sequence, logits: npt.NDArray[np.float32]) -> None:
    """Note how likely the prompt's next tokens are by the logits [S, vocab] before each of them."""
    assert sequence.request.prompt_logprobs is not None
    begin = sequence.computed + 1
    following = sequence.tokens[begin : min(begin + len(logits), sequence.prompt_length)]
    sequence.prompt_logprobs += score(logits[: len(following)], following, sequence.request.prompt_logprobs)


def _outcomes(work: Work, draws: list[Draw | LfmServeError]) -> Iterator[Outcome]:
    """What the step's sequences get, but for those cancelled meanwhile. Takes the drawn tokens into them."""
    first = work.sequences[0]
    if work.kind is StepKind.PREFILL and first.request.report_progress and not first.cancelled:
        yield first, _progress(first, time.monotonic())
    if work.scores and work.reaches_end and not first.cancelled:
        finish = None if work.draws else FinishReason.LENGTH
        yield first, PromptLogprobs(tuple(first.prompt_logprobs), finish)
    for sequence, draw in zip(work.sequences, draws, strict=False):
        if not sequence.cancelled:
            yield sequence, _take(sequence, draw)


def _progress(sequence: Sequence, now: float) -> PromptProgress:
    processed = min(sequence.computed, sequence.prompt_length)
    return PromptProgress(sequence.prompt_length, sequence.cached, processed, now - sequence.started_at)


def _take(sequence: Sequence, draw: Draw | LfmServeError) -> TokenEvent | LfmServeError:
    if isinstance(draw, LfmServeError):
        return draw
    token, logprobs = draw
    sequence.last_token_at = time.monotonic()
    return TokenEvent(token, logprobs, sequence.append(token))
