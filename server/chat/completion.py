"""The answers to one request while the engine generates them: deltas, token counts, times and ends. Knows no text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from server.chat.types import ChoiceEnd
from server.engine.stream import StreamEvent, TokenStream
from server.engine.types import TokenEvent
from server.errors import LfmServeError

T = TypeVar("T")


class EndingDelta(Protocol):
    """A delta; the last one of a choice has `end`."""

    @property
    def end(self) -> ChoiceEnd | None: ...


D = TypeVar("D", bound=EndingDelta)
D_co = TypeVar("D_co", bound=EndingDelta, covariant=True)


class ChoiceReader(Protocol[D_co]):
    """Turns one sequence's events into deltas; `ended` after the last event or a stop string."""

    @property
    def ended(self) -> bool: ...
    def feed(self, event: StreamEvent) -> Iterable[D_co]: ...


@dataclass(slots=True)
class Times:
    """When a request was queued and when its first and latest tokens arrived (monotonic clock, seconds)."""

    queued: float
    first_token: float | None = None
    last_token: float | None = None

    def token(self) -> None:
        """Note that a token arrived."""
        self.last_token = time.monotonic()
        self.first_token = self.first_token or self.last_token


class Completion(Generic[D]):
    """`n` answers to each of `prompts`, numbered prompt by prompt.

    `prompt_tokens` counts each prompt once; `completion_tokens` counts the tokens of all choices so far. `ends` maps a
    choice that has ended to how it ended. `unenforced` lists the parts of tool schemas that free calls may violate.
    """

    def __init__(
        self,
        prompts: Sequence[tuple[int, ...]],
        streams: Sequence[TokenStream],
        choices: Sequence[ChoiceReader[D]],
        unenforced: tuple[str, ...] = (),
    ) -> None:
        self.prompts = prompts
        self.n = len(streams) // len(prompts)
        self.unenforced = unenforced
        self.prompt_tokens = sum(map(len, prompts))
        self.completion_tokens = 0
        self.times = Times(streams[0].queued_at)
        self.ends: dict[int, ChoiceEnd] = {}
        self._streams = streams
        self._choices = choices

    @property
    def cached_tokens(self) -> int:
        """How many of `prompt_tokens` came from the prefix cache, counting prompts whose prefill has started."""
        return sum(stream.cached_tokens for stream in self._streams[:: self.n])

    @property
    def generated_tokens(self) -> int:
        """The tokens generated so far, including those that `deltas` has not taken yet."""
        return sum(stream.sequence.generated for stream in self._streams)

    @property
    def started(self) -> float | None:
        """When the first prefill started, by the clock of `times`; None before that."""
        return min((stream.started_at for stream in self._streams if stream.started_at is not None), default=None)

    @property
    def answered(self) -> bool:
        """Whether the engine returned anything: a token, or log-probabilities of a prompt without an answer."""
        return self.completion_tokens > 0 or bool(self.ends)

    async def deltas(self) -> AsyncGenerator[tuple[int, D]]:
        """Yield (choice, delta) as they arrive.

        Raises the error that made a sequence fail. Closing the generator cancels all sequences.
        """
        try:
            async with aclosing(_merged(self._streams)) as events:
                async for choice, event in events:
                    for delta in self._read(choice, event):
                        yield choice, delta
        finally:
            self.cancel()

    def fail(self, error: LfmServeError) -> None:
        """Stop generating; `deltas` yields what has arrived, then raises `error`."""
        for stream in self._streams:
            stream.fail(error)

    def cancel(self) -> None:
        """Stop generating, whether or not `deltas` was ever called."""
        for stream in self._streams:
            stream.cancel()

    def _read(self, choice: int, event: StreamEvent) -> list[D]:
        if isinstance(event, TokenEvent):
            self.completion_tokens += 1
            self.times.token()
        deltas = list(self._choices[choice].feed(event))
        if self._choices[choice].ended:
            self._streams[choice].cancel()  # at once: by the next await another token may have arrived
            assert deltas[-1].end is not None
            self.ends[choice] = deltas[-1].end
        return deltas


AnyCompletion = Completion[Any]
"""A completion whose deltas do not matter: of a chat or of texts."""


async def _merged(streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Yield (index of the stream, event) for the events of all streams as they arrive."""
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    pending = {asyncio.ensure_future(anext(stream)): i for i, stream in enumerate(streams)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                i = pending.pop(task)
                try:
                    event = task.result()
                except StopAsyncIteration:
                    continue
                pending[asyncio.ensure_future(anext(streams[i]))] = i
                yield i, event
    finally:
        for task in pending:
            if not task.cancel() and not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not log a second failure
