"""Runs requests on worker threads, and delivers their events on the event loop.

The engine works on tokens and knows neither text nor HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Requests
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from server.cache_folder.disk_cache import DiskCache
from server.engine.admission import QueueLoad, has_places, has_tokens
from server.engine.completion_rate import CompletionRate
from server.engine.config import EngineConfig
from server.engine.disk_tier.tier import DiskTier
from server.engine.engine_state import EngineState
from server.engine.observations import EngineStats, StepKind, StepObservation, collect
from server.engine.prefix_cache import PrefixCache
from server.engine.schedule import Policy, Width
from server.engine.sequence import Sequence, is_last
from server.engine.step import SequenceEvent
from server.engine.stream import TokenStream
from server.engine.types import GenerationRequest
from server.engine.worker import Shared, Worker
from server.errors import ModelNotReadyError, QueueFullError, engine_failed
from server.kv_events.held_blocks import HeldBlocks
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool

WARM_UP_CHUNKS = (8, 1)
"""Lengths of the warm-up chunks, in tokens.

Two lengths let the cost model tell the fixed cost from the cost per token. The short one determines the fixed cost, so
it comes last: a session's first run is slow.
"""


class Engine:
    """Continuous batching over one or more sessions, with one thread each.

    After `start`, call methods on the event loop's thread only, except `stats` and `join`.
    """

    def __init__(
        self,
        sessions: Requests[ModelSession],
        config: EngineConfig,
        observe: Callable[[StepObservation], None] = lambda _: None,
        disk: DiskCache | None = None,
    ) -> None:
        """Create the engine without starting it.

        sessions: the wide session, optionally followed by two narrow sessions.
        observe: called with an observation of each step, on the thread of the worker that ran it.
        disk: prefix cache on disk; None if it is off.
        """
        self.config = config
        self.vocab_size = sessions[0].contract.vocab_size
        self.traceable = sessions[0].traceable
        narrow = sessions[1].threads if len(sessions) > 2 else None
        self.state = EngineState(
            slots=SlotPool(sessions[0].contract.states, config.max_seqs, self.max_model_len),
            cache=PrefixCache(config.cache_bytes, config.held_blocks),
            slot_tokens=config.slot_tokens,
            policy=Policy(sessions[0].threads, narrow, config.prefill_chunk, config.itl_target),
        )
        self._wake = threading.Condition()
        if disk is not None:
            self.state.disk = DiskTier(disk, self.state.cache, self._wake)
        self._closing = threading.Event()
        self.rate = CompletionRate()
        self._reserved: set[QueuePlaces] = set()
        self._shared = Shared(self.state, self._wake, self._closing, config.unknown_ids, self._hand_over, observe)
        widths = [Width.WIDE] + [Width.NARROW] * (len(sessions) - 1)
        self._sessions = sessions
        self._threads = [self._thread(session, width) for session, width in zip(sessions, widths, strict=True)]
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def max_model_len(self) -> int:
        """Maximum number of tokens in a prompt and its answer; at most `slot_tokens`."""
        return min(self.config.max_model_len, self.config.slot_tokens)

    @property
    def max_sequences_per_request(self) -> int:
        """Maximum number of sequences in one request: all slots and the whole queue."""
        return self.config.max_seqs + self.config.max_waiting

    @property
    def held_blocks(self) -> HeldBlocks:
        """The blocks in the prefix cache."""
        return self.state.cache.held

    @property
    def failed(self) -> bool:
        """Whether a worker has failed and the process must be restarted."""
        return self._shared.failed.is_set()

    @property
    def running(self) -> int:
        """Number of sequences with a slot."""
        return self.state.running

    @property
    def waiting(self) -> int:
        """Number of sequences that are queued, or suspended because of a slow client."""
        return len(self.state.waiting) + len(self.state.suspended)

    def stats(self) -> EngineStats:
        """Return the current statistics."""
        with self._wake:
            return collect(self.state, self.config)

    def warm_up(self) -> None:
        """Warm up and measure a session of each width.

        Call this before `start`. Raises any error from the model.
        """
        chunks = [n for n in WARM_UP_CHUNKS if n <= min(self.config.prefill_chunk, self.max_model_len - 1)]
        for threads, session in {session.threads: session for session in self._sessions}.items():
            # Decode steps of narrow sessions are never predicted.
            for n in chunks if threads == self.state.policy.wide else chunks[:1]:
                started_at = time.monotonic()
                session.run(self.state.slots, 0, np.zeros((1, n), np.int64), np.array([1]))
                seconds = time.monotonic() - started_at
                self.state.costs.observe(StepKind.PREFILL, session.threads, n, seconds)
                if n == 1:  # also what a decode step of one row does
                    self.state.costs.observe(StepKind.DECODE, session.threads, n, seconds)
        self.state.slots.release(0)

    def start(self) -> None:
        """Start the worker threads, which deliver events on the current event loop."""
        self._loop = asyncio.get_running_loop()
        if self.state.disk is not None:
            self.state.disk.disk.start()
        for thread in self._threads:
            thread.start()

    def join(self, narrow: Requests[ModelSession]) -> None:
        """Add two narrow sessions to an engine that runs with a wide session only.

        Does nothing if the engine is stopping.
        """
        threads = [self._thread(session, Width.NARROW) for session in narrow]
        with self._wake:
            if self._closing.is_set():
                return
            self.state.policy = replace(self.state.policy, narrow=narrow[0].threads)
            self._threads += threads
            for thread in threads:
                thread.start()

    async def stop(self, deadline: float = 0.0) -> None:
        """Stop the workers after their current steps, and end all sequences.

        Streams of unfinished sequences raise ModelNotReadyError.

        deadline: time by which writing the prefix cache to disk must end, in monotonic seconds.
        """
        with self._wake:
            self._closing.set()
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        error = ModelNotReadyError("The server is stopping.", code="draining", retry_after=5)
        for sequence in self.state.unfinished():
            sequence.deliver(error)
        if self.state.disk is not None:
            await asyncio.to_thread(self.state.disk.finish, deadline)

    def submit(self, requests: Requests[GenerationRequest]) -> list[TokenStream]:
        """Queue either all of `requests` or none of them.

        All must have the same context.

        Raises QueueFullError if the queue has no room.
        Raises ModelNotReadyError if the engine is stopping or has failed.
        """
        with self.reserve(requests[0].context.tenant, len(requests)) as places:
            return places.submit(requests)

    @contextmanager
    def reserve(self, tenant: str, count: int) -> Iterator[QueuePlaces]:
        """Reserve `count` places in the queue during a `with` block.

        The block tokenizes the prompts and submits them. Unused places are released.

        Raises QueueFullError if the queue has no room.
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
        """Queue `requests` in reserved places (see QueuePlaces.submit)."""
        assert len(requests) <= places.count
        self._reserved.discard(places)
        streams = [TokenStream(request, self.cancel, self._notify) for request in requests]
        with self._wake:
            if self.failed:
                raise engine_failed()
            if self._closing.is_set():
                raise ModelNotReadyError("The server is stopping.", code="draining", retry_after=5)
            load, tokens, config = self._queue_load(places.tenant), sum(len(r.prompt) for r in requests), self.config
            if not has_tokens(load, len(requests), tokens, config.max_waiting, config.max_waiting_tokens):
                raise QueueFullError(f"{config.max_waiting_tokens:,} prompt tokens", self.retry_after())
            if not self.state.running:
                self.rate.restart()
            for stream in streams:
                self.state.queue(stream.sequence)
            self._wake.notify_all()
        return streams

    def _queue_load(self, tenant: str) -> QueueLoad:
        with self._wake:
            waiting, reserved = self.state.waiting, self._reserved
            return QueueLoad(
                waiting=len(waiting) + sum(places.count for places in reserved),
                own=waiting.count_of(tenant) + sum(places.count for places in reserved if places.tenant == tenant),
                tenants=len({tenant, *waiting.tenants, *(places.tenant for places in reserved)}),
                tokens=sum(sequence.prompt_length for sequence in waiting),
                free_slots=self.state.free_slots,
            )

    def retry_after(self) -> float:
        """Return the expected seconds until the queue is empty and a slot becomes free."""
        return self.rate.seconds_for(len(self.state.waiting) + 1)

    def cancel(self, sequence: Sequence) -> None:
        """Cancel a sequence.

        A waiting sequence leaves the queue at once. A running one loses its slot after its current step.
        """
        with self._wake:
            if sequence.slot is not None and not sequence.cancelled:
                self.rate.record(1)
            sequence.cancelled = True
            self.state.waiting.drop_cancelled()  # a worker removes running sequences when it settles the state
            self._wake.notify_all()

    def _notify(self) -> None:
        """Wake the workers to look for work."""
        with self._wake:
            self._wake.notify_all()

    def _thread(self, session: ModelSession, width: Width) -> threading.Thread:
        run = Worker(session, width, self._shared).run
        return threading.Thread(target=run, name=f"engine-{width.value}", daemon=True)

    def _hand_over(self, events: list[SequenceEvent]) -> None:
        """Deliver a worker's events on the event loop."""
        assert self._loop is not None
        self.rate.record(sum(is_last(event) for _, event in events))
        # If the loop is closed, nothing consumes the streams any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, events)


@dataclass(frozen=True, slots=True, eq=False)
class QueuePlaces:
    """Places in an engine's queue that are reserved for one tenant."""

    engine: Engine
    tenant: str
    count: int

    def submit(self, requests: Requests[GenerationRequest]) -> list[TokenStream]:
        """Queue all of `requests` in the reserved places, or none of them.

        Raises QueueFullError if the prompts have too many tokens for the queue.
        Raises ModelNotReadyError if the engine is stopping or has failed.
        """
        return self.engine._submit(self, requests)


def _deliver(events: list[SequenceEvent]) -> None:
    for sequence, event in events:
        sequence.deliver(event)
