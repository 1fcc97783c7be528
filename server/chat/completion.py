"""Tracks the answers to one request while the engine generates them."""

from __future__ import annotations

import asyncio
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
    """A delta that has `end` set if it is the last one of its choice."""

    @property
    def end(self) -> ChoiceEnd | None: ...


D = TypeVar("D", bound=EndingDelta)
D_co = TypeVar("D_co", bound=EndingDelta, covariant=True)


class ChoiceReader(Protocol[D_co]):
    """A reader that turns the events of one sequence into deltas.

    ended: True after the last event or a stop string.
    reasoning_tokens: number of tokens in the thoughts so far.
    """

    @property
    def ended(self) -> bool: ...
    @property
    def reasoning_tokens(self) -> int: ...
    def feed(self, event: StreamEvent) -> Iterable[D_co]: ...


@dataclass(slots=True)
class Times:
    """When a request was queued and its tokens were drawn (monotonic clock, in seconds).

    first_token: None until a token is read.
    last_token: when the latest of the tokens read so far was drawn; None until a token is read.
    """

    queued: float
    first_token: float | None = None
    last_token: float | None = None

    def add(self, drawn_at: float) -> None:
        """Record a token of any choice."""
        self.first_token = min(self.first_token or drawn_at, drawn_at)
        self.last_token = max(self.last_token or drawn_at, drawn_at)


class Completion(Generic[D]):
    """The answers to one request: `n` choices for each prompt.

    Choices are numbered prompt by prompt. If `n` is 2, choices 2 and 3 answer the second prompt.

    prompts: tokens of each prompt.
    unenforced: messages about unenforced keywords of tool schemas.
    prompt_tokens: number of tokens in all prompts.
    completion_tokens: number of tokens in all choices so far.
    ends: how each finished choice ended. The key is the number of the choice.
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
        """The number of prompt tokens from the prefix cache; 0 until prefill starts."""
        return sum(stream.cached_tokens for stream in self._streams[:: self.n])

    @property
    def reasoning_tokens(self) -> int:
        """The number of tokens in all thoughts so far."""
        return sum(choice.reasoning_tokens for choice in self._choices)

    @property
    def generated_tokens(self) -> int:
        """The number of tokens generated, including those not yet yielded by `deltas`."""
        return sum(stream.sequence.generated for stream in self._streams)

    @property
    def started(self) -> float | None:
        """When the first prefill started (monotonic clock, in seconds); None before."""
        return min((stream.started_at for stream in self._streams if stream.started_at is not None), default=None)

    @property
    def answered(self) -> bool:
        """Whether a token has arrived or a choice has ended."""
        return self.completion_tokens > 0 or bool(self.ends)

    async def deltas(self) -> AsyncGenerator[tuple[int, D]]:
        """Yield (number of the choice, delta) pairs as they arrive.

        Raises the error of a sequence that fails. Closing the generator cancels all sequences.
        """
        try:
            async with aclosing(_merged(self._streams)) as events:
                async for choice, event in events:
                    for delta in self._read(choice, event):
                        yield choice, delta
        finally:
            self.cancel()

    def fail(self, error: LfmServeError) -> None:
        """Stop generating because of `error`.

        `deltas` yields the deltas that have arrived, then raises `error`.
        """
        for stream in self._streams:
            stream.fail(error)

    def cancel(self) -> None:
        """Stop generating, whether or not `deltas` has been called."""
        for stream in self._streams:
            stream.cancel()

    def _read(self, choice: int, event: StreamEvent) -> list[D]:
        if isinstance(event, TokenEvent):
            self.completion_tokens += 1
            self.times.add(event.drawn_at)
        deltas = list(self._choices[choice].feed(event))
        if self._choices[choice].ended:
            self._streams[choice].cancel()  # now, because another token may arrive during the next await
            assert deltas[-1].end is not None
            self.ends[choice] = deltas[-1].end
        return deltas


AnyCompletion = Completion[Any]
"""A completion for code that ignores the deltas."""


async def _merged(streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Yield (index of the stream, event) pairs from all streams as they arrive."""
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
                task.exception()  # retrieve the exception, or asyncio logs it as a second failure
