"""The engine's async front: requests in on the event loop, tokens out on it, threads in between.

Between the worker threads and the loop there is one hand-over for each step. Knows no text, no HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Requests
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from server.engine.completion_rate import CompletionRate
from server.engine.engine_state import EngineState
from server.engine.observations import EngineStats, StepKind, StepRecord
from server.engine.prefix_cache import PrefixCache
from server.engine.queue_room import QueueLoad, has_places, has_tokens
from server.engine.schedule import Policy, Width
from server.engine.sequence import Sequence, is_last
from server.engine.step import Outcome
from server.engine.stream import TokenStream
from server.engine.types import GenerationRequest
from server.engine.worker import Shared, Worker
from server.errors import ModelNotReadyError, QueueFullError, engine_failed
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool

WARM_UP_CHUNKS = (2, 8)
"""Tokens: enough to tell what a step costs from what a token costs."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`max_seqs` run at once, `max_waiting` wait for a slot, with prompts of `max_waiting_tokens` together.

    `max_model_len` (prompt and answer) and `prefill_chunk` (the most of a prompt in one step) are in tokens. Running
    sequences hold at most `slot_tokens` tokens together, the prefix cache at most `cache_bytes`. A stream waits about
    `itl_target` seconds at most between two tokens. `unknown_ids` are never drawn.
    """

    max_seqs: int
    max_waiting: int
    max_model_len: int
    prefill_chunk: int
    slot_tokens: int
    cache_bytes: int
    itl_target: float
    unknown_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    max_waiting_tokens: int | None = None


class Engine:
    """Continuous batching over `sessions`, one thread each, with `config.max_seqs` slots of state.

    `start` and every method but `stop` and `join` belong to the event loop's thread.
    """

    def __init__(
        self,
        sessions: Requests[ModelSession],
        config: EngineConfig,
        observe: Callable[[StepRecord], None] = lambda _: None,
    ) -> None:
        """`observe` is told of each step, on the thread that carried it out."""
        self.config = config
        self.vocab_size = sessions[0].contract.vocab_size
        self.traceable = sessions[0].traceable
        narrow = sessions[1].threads if len(sessions) > 2 else None
        self.state = EngineState(
            slots=SlotPool(sessions[0].contract.states, config.max_seqs, self.max_model_len),
            cache=PrefixCache(config.cache_bytes),
            slot_tokens=config.slot_tokens,
            policy=Policy(sessions[0].threads, narrow, config.prefill_chunk, config.itl_target),
        )
        self._wake = threading.Condition()
        self._closing = threading.Event()
        self._rate = CompletionRate()
        self._reserved: set[QueuePlaces] = set()
        self._shared = Shared(self.state, self._wake, self._closing, config.unknown_ids, self._hand_over, observe)
        widths = [Width.WIDE] + [Width.NARROW] * (len(sessions) - 1)
        self._sessions = sessions
        self._threads = [self._thread(session, width) for session, width in zip(sessions, widths, strict=True)]
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest prompt and answer together, which must fit into the slots alone."""
        return min(self.config.max_model_len, self.config.slot_tokens)

    @property
    def most_at_once(self) -> int:
        """How many sequences one request may have."""
        return self.config.max_seqs + self.config.max_waiting

    @property
    def failed(self) -> bool:
        """Whether it can do no more: the process has to be started again."""
        return self._shared.failed.is_set()

    @property
    def running(self) -> int:
        return self.state.running

    @property
    def waiting(self) -> int:
        return len(self.state.waiting)

    def stats(self) -> EngineStats:
        """What the engine holds now. May be called on any thread."""
        with self._wake:
            state, cache = self.state, self.state.cache
            running = (*state.prefilling, *state.decoding)
            return EngineStats(
                running=state.running,
                waiting=len(state.waiting),
                waiting_tokens=sum(s.length for s in state.waiting),
                slots=self.config.max_seqs,
                slot_tokens=sum(s.computed for s in running),
                slot_tokens_budget=self.config.slot_tokens,
                cache_tokens=cache.tokens,
                cache_bytes=cache.nbytes,
                cache_window_bytes=cache.window_bytes,
                cache_bytes_budget=cache.budget,
                cache_queried_tokens=cache.queried_tokens,
                cache_hit_tokens=cache.hit_tokens,
                cache_evicted_tokens=cache.evicted_tokens,
                preemptions=state.preemptions,
                oldest_step_since=min((flight.begun for flight in state.flights), default=None),
            )

    def warm_up(self) -> None:
        """Run each session once for each kind of step, so that the first request finds it warm and its cost known.

        Before `start` only.
        """
        chunks = [n for n in WARM_UP_CHUNKS if n <= min(self.config.prefill_chunk, self.max_model_len - 1)]
        for session in self._sessions:
            for kind, n in [(StepKind.DECODE, 1), *((StepKind.PREFILL, chunk) for chunk in chunks)]:
                begun = time.monotonic()
                session.run(self.state.slots, 0, np.zeros((1, n), np.int64), np.array([1]))
                self.state.costs.observe(kind, session.threads, n, time.monotonic() - begun)
        self.state.slots.release(0)

    def start(self) -> None:
        """Start the worker threads; tokens are delivered on the event loop that is running now."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def join(self, narrow: Requests[ModelSession]) -> None:
        """Let two narrow sessions in on the work of an engine that was started with a wide one. On any thread."""
        threads = [self._thread(session, Width.NARROW) for session in narrow]
        with self._wake:
            if self._closing.is_set():
                return
            self.state.policy = replace(self.state.policy, narrow=narrow[0].threads)
            self._threads += threads
            for thread in threads:
                thread.start()

    async def stop(self) -> None:
        """End after the steps in flight; whatever has not finished fails with ModelNotReadyError."""
        with self._wake:
            self._closing.set()
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        error = ModelNotReadyError("The server is stopping.", code="draining", retry_after=5)
        for sequence in (*self.state.waiting, *self.state.prefilling, *self.state.decoding):
            sequence.deliver(error)

    def submit(self, requests: Requests[GenerationRequest]) -> list[TokenStream]:
        """Queue all of `requests`, which share a context, or none.

        Raises QueueFullError if the queue is full, ModelNotReadyError once the engine stops.
        """
        with self.reserve(requests[0].context.tenant, len(requests)) as places:
            return places.submit(requests)

    @contextmanager
    def reserve(self, tenant: str, count: int) -> Iterator[QueuePlaces]:
        """Hold `count` places in the queue while their prompts are tokenized.

        Raises QueueFullError, before any work is done, if the tenant may not queue that many.
        """
        config = self.config
        if not has_places(self._queue_load(tenant), count, config.max_waiting):
            raise QueueFullError(f"{config.max_waiting} requests", self.retry_after())
        places = QueuePlaces(self, tenant, count)
        self._reserved.add(places)
        try:
            yield places
        finally:
            self._reserved.discard(places)

    def _submit(self, places: QueuePlaces, requests: Requests[GenerationRequest]) -> list[TokenStream]:
        """Turn reserved places into queued sequences."""
        assert len(requests) <= places.count
        self._reserved.discard(places)
        streams = [TokenStream(request, self.cancel) for request in requests]
        with self._wake:
            if self.failed:
                raise engine_failed()
            if self._closing.is_set():
                raise ModelNotReadyError("The server is stopping.", code="draining", retry_after=5)
            load, tokens, config = self._queue_load(places.tenant), sum(len(r.prompt) for r in requests), self.config
            if not has_tokens(load, len(requests), tokens, config.max_waiting, config.max_waiting_tokens):
                raise QueueFullError(f"prompts of {config.max_waiting_tokens:,} tokens", self.retry_after())
            if not self.state.running:
                self._rate.begin()
            for stream in streams:
                self.state.queue(stream.sequence)
            self._wake.notify_all()
        return streams

    def _queue_load(self, tenant: str) -> QueueLoad:
        with self._wake:
            waiting, reserved = self.state.waiting, self._reserved
            return QueueLoad(
                waiting=len(waiting) + sum(places.count for places in reserved),
                own=waiting.of(tenant) + sum(places.count for places in reserved if places.tenant == tenant),
                tenants=len({tenant, *waiting.tenants, *(places.tenant for places in reserved)}),
                tokens=sum(sequence.prompt_length for sequence in waiting),
                free_slots=self.state.free_slots,
            )

    def retry_after(self) -> float:
        """Seconds until about all that wait now have made room, at the pace of late."""
        return self._rate.seconds_for(len(self.state.waiting) + 1)

    def cancel(self, sequence: Sequence) -> None:
        """Mark a sequence; it leaves as soon as no step carries it."""
        with self._wake:
            if sequence.slot is not None and not sequence.cancelled:
                self._rate.count(1)
            sequence.cancelled = True
            self.state.waiting.drop_cancelled()  # who waits leaves at once, the others when a worker settles
            self._wake.notify_all()

    def _thread(self, session: ModelSession, width: Width) -> threading.Thread:
        work = Worker(session, width, self._shared).run
        return threading.Thread(target=work, name=f"engine-{width.value}", daemon=True)

    def _hand_over(self, outcomes: list[Outcome]) -> None:
        assert self._loop is not None
        self._rate.count(sum(is_last(event) for _, event in outcomes))
        # A loop that is closed has nobody left to tell.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, outcomes)


@dataclass(frozen=True, slots=True, eq=False)
class QueuePlaces:
    """`count` places in an engine's queue, reserved for one tenant until they are used or released."""

    engine: Engine
    tenant: str
    count: int

    def submit(self, requests: Requests[GenerationRequest]) -> list[TokenStream]:
        """Queue all of `requests`, at most `count` of them, or none.

        Raises QueueFullError if their prompts have too many tokens, ModelNotReadyError once the engine stops.
        """
        return self.engine._submit(self, requests)


def _deliver(outcomes: list[Outcome]) -> None:
    for sequence, event in outcomes:
        sequence.deliver(event)
