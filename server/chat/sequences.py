"""What chats and text completions share on their way to the engine's sequences and back. Knows neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from server.engine.types import SamplingParams
from server.errors import InvalidRequestError

T = TypeVar("T")
SEEDS = 2**64


def sampling_of_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    """Choice i of a request is drawn with its seed + i."""
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + choice) % SEEDS)


def check_token_ids(tokens: Iterable[int], vocab_size: int, field: str) -> None:
    """Raises InvalidRequestError, in the name of `field`, for ids that the model does not have."""
    for token in tokens:
        if not 0 <= token < vocab_size:
            last = vocab_size - 1
            raise InvalidRequestError(f"{token} is no token of this model: ids go from 0 to {last}.", field)


async def merged(streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """(index of the stream, event): the events of all streams as they come."""
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
                task.exception()  # looked at: one failure has been raised already
