"""Carries steps out: one thread for each session, all on one state. Decide, act, commit.

Deciding and committing happen under the lock and take microseconds; acting, the model's run and the draw, does not hold
it. A step touches only the sequences and slots that are in flight in it, and commits whole or not at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.engine.engine_state import EngineState
from server.engine.observations import StepKind, StepRecord
from server.engine.sampling.draw import draw
from server.engine.sampling.logprobs import score
from server.engine.schedule import Width, next_step
from server.engine.sequence import Sequence, is_last
from server.engine.step import (
    Outcome,
    Result,
    Work,
    begin_decode,
    begin_prefill,
    decoded_checkpoints,
    outcomes,
    progress,
)
from server.errors import LfmServeError, StepFailedError, engine_failed
from server.runtime.session import ModelSession
from server.runtime.snapshots import Snapshot

log = logging.getLogger(__name__)

HandOver = Callable[[list[Outcome]], None]
Observe = Callable[[StepRecord], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all workers of an engine have in common; `state` is changed under `wake` only.

    `hand_over` gets what each step produced, `observe` how it went; `unknown_ids` are never drawn. `failed` is set, and
    the engine closes, where a worker cannot go on.
    """

    state: EngineState
    wake: threading.Condition
    closing: threading.Event
    unknown_ids: npt.NDArray[np.int64]
    hand_over: HandOver
    observe: Observe
    failed: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Runs steps on one session until the engine closes."""

    def __init__(self, session: ModelSession, width: Width, shared: Shared) -> None:
        self._session = session
        self._width = width
        self._shared = shared
        self._state = shared.state

    def run(self) -> None:
        """The worker's thread: a fault outside the model's run leaves no state to go on from, and closes the engine."""
        work: Work | None = None
        try:
            while (work := self._decide()) is not None:
                self._carry_out(work)
        except Exception:
            log.critical("The engine has failed and takes nothing until the server is started again.", exc_info=True)
            self._fail(work.sequences if work is not None else ())

    def _carry_out(self, work: Work) -> None:
        if work.starts:
            self._shared.hand_over([(work.sequences[0], progress(work.sequences[0], work.flight.begun))])
        last_tokens_at = [sequence.last_token_at for sequence in work.sequences]
        result = self._try(work)
        produced = self._abandon(work) if result is None else self._commit(work, result)
        if produced:
            self._shared.hand_over(produced)
        self._shared.observe(self._record(work, result, last_tokens_at))

    def _fail(self, carried: Iterable[Sequence]) -> None:
        """Close the engine; `carried` and all others end with an error."""
        with self._shared.wake:
            self._shared.failed.set()
            self._shared.closing.set()
            self._shared.wake.notify_all()
            others = [*self._state.waiting, *self._state.prefilling, *self._state.decoding]
        self._shared.hand_over([(sequence, engine_failed()) for sequence in (*carried, *others)])

    def _decide(self) -> Work | None:
        """Wait for something to do and take it; None when the engine closes."""
        with self._shared.wake:
            work = self._next()
            self._wake_others()  # for what the step before, or this one, has made possible
            while work is None and not self._shared.closing.is_set():
                self._shared.wake.wait()
                work = self._next()
                if work is not None:
                    self._wake_others()
            return work

    def _next(self) -> Work | None:
        if self._shared.closing.is_set():
            return None
        state = self._state
        state.settle()
        step = next_step(state.load(), self._width, state.policy, state.costs)
        if step is None:
            return None
        if step.kind is StepKind.DECODE:
            return begin_decode(state, self._width)
        return begin_prefill(state, self._width, state.prompts()[step.index], step.tokens)

    def _wake_others(self) -> None:
        state = self._state
        if state.policy.narrow is None:
            return
        load = state.load()
        if any(next_step(load, width, state.policy, state.costs) is not None for width in Width):
            self._shared.wake.notify_all()

    def _try(self, work: Work) -> Result | None:
        try:
            return self._act(work)
        except Exception:
            names = ", ".join(sorted({s.request.context.id for s in work.sequences}))
            log.exception("A %s step of %d sequences failed, of: %s", work.kind, len(work.sequences), names)
            return None

    def _act(self, work: Work) -> Result:
        slots = self._state.slots
        if work.restore is not None:
            if work.restore.snapshots:
                slots.load(work.first, work.restore.snapshots)
            else:
                slots.clear(work.first)
        checkpoints = self._checkpoints(work)
        before = time.monotonic()
        logits = self._session.run(slots, work.first, work.tokens, work.past, work.scores, bool(checkpoints))
        run_seconds = time.monotonic() - before
        snapshots = self._snapshots(work, checkpoints)
        if work.scores:
            _score(work.sequences[0], logits)
            logits = logits[-1:]
        least_ahead = self._state.costs.least_forced(self._state.policy.wide, max(1, len(self._state.decoding)))
        draws = draw(logits, work.sequences, self._shared.unknown_ids, least_ahead) if work.draws else []
        return Result(draws, snapshots, run_seconds)

    def _checkpoints(self, work: Work) -> list[int]:
        """The numbers of tokens in a chunk after which the prompt's state is worth keeping."""
        if work.kind is StepKind.DECODE or not self._state.cache.budget:
            return []
        begin = int(work.past[0])
        end = begin + work.tokens.shape[1]
        return work.sequences[0].checkpoints(begin, end) if self._session.traceable else [end]

    def _snapshots(self, work: Work, checkpoints: list[int]) -> list[tuple[Sequence, int, Snapshot]]:
        slots = self._state.slots
        if work.kind is StepKind.DECODE:
            kept = decoded_checkpoints(work) if self._state.cache.budget else ()
            return [(s, end, slots.save(s.slot, s.saved, end)) for s, end in kept if s.slot is not None]
        snapshots = []
        sequence, begin = work.sequences[0], work.sequences[0].saved
        for end in checkpoints:
            windows = self._session.windows_after(end - int(work.past[0])) if self._session.traceable else None
            snapshots.append((sequence, end, slots.save(work.first, begin, end, windows)))
            begin = end
        return snapshots

    def _commit(self, work: Work, result: Result) -> list[Outcome]:
        """Take the step's tokens into the state; sequences that end leave."""
        with self._shared.wake:
            self._land(work)
            n = len(work.sequences) if work.kind is StepKind.DECODE else work.tokens.size
            self._state.costs.observe(work.kind, self._session.threads, n, result.run_seconds)
            for sequence in work.sequences:
                sequence.computed += work.tokens.shape[1]
            for sequence, end, snapshot in result.snapshots:
                self._state.keep(sequence, end, snapshot)
            produced = list(outcomes(work, result))
            for sequence, event in produced:
                if is_last(event):
                    self._leave(sequence, event)
            if work.kind is StepKind.DECODE:
                for sequence in [s for s in work.sequences if s.slot is not None and s.remaining > 1]:
                    self._state.read_ahead(sequence)
        return produced

    def _leave(self, sequence: Sequence, event: object) -> None:
        if not isinstance(event, LfmServeError):
            self._state.save(sequence)
        self._state.leave(sequence)

    def _abandon(self, work: Work) -> list[Outcome]:
        """A failed step takes its own sequences with it; nobody else's state was touched."""
        error = StepFailedError("The model failed on this request; the server's log has the cause.")
        with self._shared.wake:
            self._land(work)
            for sequence in work.sequences:
                self._state.leave(sequence)
        return [(s, error) for s in work.sequences if not s.cancelled]

    def _land(self, work: Work) -> None:
        self._state.flights.remove(work.flight)
        for sequence in work.sequences:
            sequence.in_flight = False

    def _record(self, work: Work, result: Result | None, last_tokens_at: list[float]) -> StepRecord:
        now = time.monotonic()
        drawn = work.kind is StepKind.DECODE and result is not None
        return StepRecord(
            kind=work.kind,
            threads=self._session.threads,
            sequences=len(work.sequences),
            tokens=work.tokens.size,
            seconds=now - work.flight.begun,
            run_seconds=0.0 if result is None else result.run_seconds,
            intervals=tuple(now - at for at in last_tokens_at) if drawn else (),
            failed=result is None,
        )


def _score(sequence: Sequence, logits: npt.NDArray[np.float32]) -> None:
    """Note how likely the prompt's next tokens are by the logits [S, vocab] before each of them."""
    assert sequence.request.prompt_logprobs is not None
    begin = sequence.computed + 1
    following = sequence.tokens[begin : min(begin + len(logits), sequence.prompt_length)]
    sequence.prompt_logprobs += score(logits[: len(following)], following, sequence.request.prompt_logprobs)
