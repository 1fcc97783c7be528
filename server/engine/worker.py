"""Executes steps on one worker thread per session.

A worker plans, executes and commits one step at a time. It holds the engine's lock only to plan and to commit, which
takes microseconds, or milliseconds if a sequence changes slots. A failed step commits nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.engine.engine_state import CACHE_OUT_OF_MEMORY, EngineState
from server.engine.observations import StepKind, StepObservation
from server.engine.sampling.logprobs import Logits, is_finite, score
from server.engine.sampling.next_tokens import draw
from server.engine.schedule import Width, next_step
from server.engine.sequence import Event, Sequence, is_last
from server.engine.step import (
    SequenceEvent,
    Step,
    StepResult,
    decode_checkpoints,
    prompt_progress,
    sequence_events,
    start_decode,
    start_prefill,
)
from server.errors import LfmServeError, StepFailedError, engine_failed
from server.runtime.session import ModelSession
from server.runtime.snapshots import Snapshot

log = logging.getLogger(__name__)

HandOver = Callable[[list[SequenceEvent]], None]
Observe = Callable[[StepObservation], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """The objects that all workers of an engine share.

    wake: the engine's lock, on which workers wait for work.
    closing: set when the workers must end.
    unknown_ids: int64, ids that are never drawn.
    hand_over: called with the events of each step, on the worker's thread.
    observe: called with an observation of each step, on the worker's thread.
    failed: set together with `closing` when a worker fails.
    """

    state: EngineState
    wake: threading.Condition
    closing: threading.Event
    unknown_ids: npt.NDArray[np.int64]
    hand_over: HandOver
    observe: Observe
    failed: threading.Event = field(default_factory=threading.Event)


class Worker:
    """A worker that runs steps on one session until the engine closes."""

    def __init__(self, session: ModelSession, width: Width, shared: Shared) -> None:
        self._session = session
        self._width = width
        self._shared = shared
        self._state = shared.state

    def run(self) -> None:
        """Run steps on the current thread until the engine closes.

        If planning or committing a step fails, the engine closes, because its state may be inconsistent.
        """
        step: Step | None = None
        try:
            while (step := self._wait_for_step()) is not None:
                self._run_step(step)
        except Exception:
            log.critical("The engine has failed and refuses all requests until the server is restarted.", exc_info=True)
            self._fail_engine(step.sequences if step is not None else ())

    def _run_step(self, step: Step) -> None:
        if step.is_first:
            sequence = step.sequences[0]
            self._shared.hand_over([SequenceEvent(sequence, prompt_progress(sequence, step.running.started_at))])
        last_tokens_at = [sequence.last_token_at for sequence in step.sequences]
        result = self._execute_or_log(step)
        events = self._drop_failed(step) if result is None else self._commit(step, result)
        if events:
            self._shared.hand_over(events)
        self._shared.observe(self._observation(step, result, last_tokens_at))

    def _fail_engine(self, in_step: Iterable[Sequence]) -> None:
        """Close the engine and end all sequences with an error.

        in_step: sequences of the worker's current step.
        """
        with self._shared.wake:
            self._shared.failed.set()
            self._shared.closing.set()
            self._shared.wake.notify_all()
            others = self._state.unfinished()
        self._shared.hand_over([SequenceEvent(sequence, engine_failed()) for sequence in (*in_step, *others)])

    def _wait_for_step(self) -> Step | None:
        """Wait for a step for this session and start it.

        Returns None if the engine is closing.
        """
        with self._shared.wake:
            step = self._start_step()
            # The end of the last step and the start of this one may allow other sessions to start a step.
            self._wake_others()
            while step is None and not self._shared.closing.is_set():
                disk = self._state.disk
                self._shared.wake.wait(None if disk is None else disk.seconds_to_wait())
                step = self._start_step()
                if step is not None:
                    self._wake_others()
            return step

    def _start_step(self) -> Step | None:
        """Settle the state, and start the scheduler's next step, if any."""
        if self._shared.closing.is_set():
            return None
        state = self._state
        state.settle()
        plan = next_step(state.load(), self._width, state.policy, state.costs)
        if plan is None:
            return None
        if plan.kind is StepKind.DECODE:
            return start_decode(state, self._width)
        prompt = state.next_prompt()
        assert prompt is not None
        return start_prefill(state, self._width, prompt, plan.tokens)

    def _wake_others(self) -> None:
        """Wake the other workers if the scheduler has a step for any session."""
        state = self._state
        if state.policy.narrow is None:
            return
        load = state.load()
        if any(next_step(load, width, state.policy, state.costs) is not None for width in Width):
            self._shared.wake.notify_all()

    def _execute_or_log(self, step: Step) -> StepResult | None:
        try:
            return self._execute(step)
        except Exception:
            ids = ", ".join(sorted({s.request.context.id for s in step.sequences}))
            log.exception("A %s step of %d sequences failed. Requests: %s", step.kind, len(step.sequences), ids)
            return None

    def _execute(self, step: Step) -> StepResult:
        """Restore cached state, run the model, take snapshots and draw tokens.

        Runs without the engine's lock.
        """
        slots = self._state.slots
        if step.restore is not None:
            if step.restore.snapshots:
                slots.load(step.first_slot, step.restore.snapshots, step.restore.length)
            else:
                slots.clear(step.first_slot)
        counts = self._prefill_checkpoints(step)
        before = time.monotonic()
        logits = self._session.run(slots, step.first_slot, step.tokens, step.past, step.scores_prompt, counts)
        run_seconds = time.monotonic() - before
        if step.scores_prompt:
            _score_prompt(step.sequences[0], logits)
            logits = logits[-1:]
        try:
            snapshots = self._snapshots(step, counts, logits)
        except MemoryError:
            log.warning(CACHE_OUT_OF_MEMORY)
            snapshots = []
        decoding = max(1, len(self._state.decoding))
        min_forced = self._state.costs.min_forced_tokens(self._state.policy.wide, decoding)
        draws = draw(logits, step.sequences, self._shared.unknown_ids, min_forced) if step.draws_tokens else []
        return StepResult(draws, snapshots, run_seconds)

    def _prefill_checkpoints(self, step: Step) -> list[int]:
        """Return where to take snapshots within a prefill chunk.

        The positions are numbers of leading tokens of the chunk.
        """
        if step.kind is StepKind.DECODE or not self._state.cache.budget:
            return []
        begin, length = int(step.past[0]), step.tokens.size
        if not self._session.traceable:
            return [length]
        return [end - begin for end in step.sequences[0].checkpoints(begin, begin + length)]

    def _snapshots(self, step: Step, counts: list[int], logits: Logits) -> list[tuple[Sequence, int, Snapshot]]:
        """Take the snapshots of a step.

        Returns (sequence, n, snapshot) triples. The snapshot ends after the first n tokens of the sequence. State that
        leads to logits that are not finite gets no snapshot, because other sequences would continue from it.

        counts: result of `_prefill_checkpoints`.
        logits: float32 [sequences, vocab].
        """
        slots = self._state.slots
        if step.kind is StepKind.DECODE:
            kept = decode_checkpoints(step) if self._state.cache.budget else ()
            sound = [(s, end) for row, s, end in kept if is_finite(logits[row])]
            return [(s, end, slots.save(s.slot, s.saved, end)) for s, end in sound if s.slot is not None]
        if counts and not is_finite(logits[0]):
            return []
        snapshots = []
        sequence, begin = step.sequences[0], step.sequences[0].saved
        for count in counts:
            end = int(step.past[0]) + count
            windows = self._session.windows_after(count) if self._session.traceable else None
            snapshots.append((sequence, end, slots.save(step.first_slot, begin, end, windows)))
            begin = end
        return snapshots

    def _commit(self, step: Step, result: StepResult) -> list[SequenceEvent]:
        """Apply a step's results to the state, and return its events."""
        with self._shared.wake:
            self._unregister(step)
            n = len(step.sequences) if step.kind is StepKind.DECODE else step.tokens.size
            self._state.costs.observe(step.kind, self._session.threads, n, result.run_seconds)
            for sequence in step.sequences:
                sequence.computed += step.tokens.shape[1]
            for sequence, end, snapshot in result.snapshots:
                self._state.add_to_cache(sequence, end, snapshot)
            events = list(sequence_events(step, result))
            for sequence, event in reversed(events):  # see EngineState.between_steps
                if is_last(event):
                    self._remove(sequence, event)
            if step.kind is StepKind.DECODE:
                for sequence in [s for s in step.sequences if s.slot is not None and s.remaining > 1]:
                    self._state.return_to_prefill(sequence)
        return events

    def _remove(self, sequence: Sequence, last_event: Event) -> None:
        """Remove a sequence that has ended, and cache its state unless it failed."""
        if not isinstance(last_event, LfmServeError):
            self._state.save(sequence)
        self._state.remove(sequence)

    def _drop_failed(self, step: Step) -> list[SequenceEvent]:
        """Remove the sequences of a failed step, and return their error events."""
        error = StepFailedError("The model failed on this request; the server's log has the cause.")
        with self._shared.wake:
            self._unregister(step)
            for sequence in reversed(step.sequences):  # see EngineState.between_steps
                self._state.remove(sequence)
        return [SequenceEvent(s, error) for s in step.sequences if not s.cancelled]

    def _unregister(self, step: Step) -> None:
        self._state.running_steps.remove(step.running)
        for sequence in step.sequences:
            sequence.in_step = False

    def _observation(self, step: Step, result: StepResult | None, last_tokens_at: list[float]) -> StepObservation:
        now = time.monotonic()
        decoded = step.kind is StepKind.DECODE and result is not None
        return StepObservation(
            kind=step.kind,
            threads=self._session.threads,
            sequences=len(step.sequences),
            tokens=step.tokens.size,
            seconds=now - step.running.started_at,
            run_seconds=0.0 if result is None else result.run_seconds,
            intervals=tuple(now - at for at in last_tokens_at) if decoded else (),
            failed=result is None,
        )


def _score_prompt(sequence: Sequence, logits: npt.NDArray[np.float32]) -> None:
    """Append the log-probabilities of prompt tokens to `sequence.prompt_logprobs`.

    logits: float32 [tokens of the step, vocab]; row i predicts token `sequence.computed + 1 + i`.
    """
    assert sequence.request.prompt_logprobs is not None
    begin = sequence.computed + 1
    following = sequence.tokens[begin : min(begin + len(logits), sequence.prompt_length)]
    sequence.prompt_logprobs += score(logits[: len(following)], following, sequence.request.prompt_logprobs)
