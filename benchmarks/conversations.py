"""The multi-turn load of the routing measurements and simulations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from server.bench.load import SAMPLING, Endpoint, Messages, Stream, percentile, prompt


@dataclass(frozen=True, slots=True)
class Load:
    """Conversations with a common system message.

    clients: number of clients. Each has one conversation at a time, and starts another one after its last turn.
    system: length of the system message, in tokens.
    answer: length of each answer, in tokens.
    user: average length of a user message, in tokens.
    think: average number of seconds between an answer and the next turn; used only in simulations.
    """

    conversations: int = 24
    clients: int = 6
    turns: int = 4
    think: float = 0.0
    system: int = 480
    user: int = 96
    answer: int = 32

    def user_tokens(self, conversation: int, turn: int) -> int:
        """Return the length of a user message, in tokens.

        It is between half and one and a half times the average.
        """
        return random.Random(f"{conversation} {turn}").randint(self.user // 2, self.user * 3 // 2)

    def messages(self, conversation: int, turn: int) -> Messages:
        """Return the new messages of a turn."""
        said = {"role": "user", "content": prompt(self.user_tokens(conversation, turn), f"{conversation}-{turn}")}
        return [{"role": "system", "content": prompt(self.system, "system")}, said] if turn == 0 else [said]


@dataclass(frozen=True, slots=True)
class Result:
    """The cost of a load.

    prompt_tokens: number of prompt tokens in all requests.
    computed_tokens: number of prompt tokens that no cache held.
    ttft: median TTFT, in seconds.
    ttft_p95: 95th percentile of the TTFT, in seconds.
    """

    prompt_tokens: int
    computed_tokens: int
    ttft: float
    ttft_p95: float

    @classmethod
    def of(cls, streams: Sequence[Stream]) -> Self:
        """Summarize the streams of a load."""
        tokens = sum(stream.prompt_tokens for stream in streams)
        cached = sum(stream.cached_tokens for stream in streams)
        times = [stream.ttft for stream in streams]
        return cls(tokens, tokens - cached, median(times), percentile(times, 95))


async def run(endpoint: Endpoint, load: Load) -> Result:
    """Run all conversations of a load and return what they cost."""
    waiting, streams = iter(range(load.conversations)), []

    async def client() -> None:
        for conversation in waiting:
            history: Messages = []
            for turn in range(load.turns):
                history += load.messages(conversation, turn)
                stream = await endpoint.run(Stream(list(history), load.answer, {**SAMPLING, "seed": conversation}))
                history.append({"role": "assistant", "content": stream.text})
                streams.append(stream)

    await asyncio.gather(*(client() for _ in range(load.clients)))
    return Result.of(streams)
