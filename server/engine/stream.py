"""Delivers the events of one sequence to a consumer on the event loop.

A stream is used on the event loop's thread only, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from server.engine.sequence import RESUME_BACKLOG, Event, Sequence, is_last
from server.engine.types import GenerationRequest, PromptLogprobs, PromptProgress, TokenEvent
from server.errors import LfmServeError

StreamEvent = TokenEvent | PromptProgress | PromptLogprobs


class TokenStream:
    """An asynchronous iterator over the events of one sequence.

    The iterator ends after an event with `finish` set. If an error ends the sequence, the iterator raises that error.
    PromptProgress and PromptLogprobs events, if requested, come before the first token. Times are in seconds of the
    monotonic clock.

    `queued_at`: time when the request was submitted.
    `started_at`: time when prefill started; None before that.
    `cached_tokens`: number of prompt tokens found in the prefix cache.
    `sequence`: the sequence inside the engine.
    """

    def __init__(
        self, request: GenerationRequest, cancel: Callable[[Sequence], None], resume: Callable[[], None]
    ) -> None:
        self.queued_at = time.monotonic()
        self.started_at: float | None = None
        self.cached_tokens = 0
        self._cancel = cancel
        self._resume = resume
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self.sequence = Sequence(request, self._deliver, self.queued_at)

    def __aiter__(self) -> TokenStream:
        return self

    async def __anext__(self) -> StreamEvent:
        if self._ended:
            raise StopAsyncIteration
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
            if self._ended:
                raise StopAsyncIteration
        event = self._events.popleft()
        if isinstance(event, LfmServeError):
            self._ended = True
            raise event
        self._ended = is_last(event)
        if isinstance(event, TokenEvent):
            self.sequence.consumed += 1
            if self.sequence.backlog == RESUME_BACKLOG:
                self._resume()
        return event

    def cancel(self) -> None:
        """End the stream, and free the slot within one step.

        This method may be called at any time, and more than once.
        """
        self._ended = True
        self._arrived.set()
        self._cancel(self.sequence)

    def fail(self, error: LfmServeError) -> None:
        """Cancel the sequence and end the stream with `error`.

        The consumer still receives the tokens generated so far.
        """
        self._cancel(self.sequence)
        self._deliver(error)

    def _deliver(self, event: Event) -> None:
        if isinstance(event, PromptProgress):
            if self.started_at is None:
                self.started_at = self.sequence.started_at
                self.cached_tokens = event.cached
            if not self.sequence.request.report_progress:
                return
        self._events.append(event)
        self._arrived.set()
