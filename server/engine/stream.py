"""Delivers the events of one sequence on the event loop."""

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

    It ends after the event whose `finish` is set, or raises the error that ends the sequence. PromptProgress and
    PromptLogprobs come before the first token.

    queued_at: time of the request, in monotonic seconds.
    started_at: start of prefill, in monotonic seconds; None before.
    cached_tokens: number of prompt tokens found in the prefix cache; 0 before prefill.
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
        """End the stream. The sequence loses its slot after its current step."""
        self._ended = True
        self._arrived.set()
        self._cancel(self.sequence)

    def fail(self, error: LfmServeError) -> None:
        """Cancel the sequence. The stream raises `error` after the events so far."""
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
