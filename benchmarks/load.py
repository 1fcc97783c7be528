"""Load on an OpenAI-compatible endpoint: streamed chats, when their tokens came, and what the server counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from benchmarks.wire import post

Messages = list[dict[str, str]]

WORDS = """
about another answer assistant base been call candidate chat city current date degrees fact false fast find fine first
found friend from gets have help here into know language like limit little live long look many meet message minutes
model more most much name need number order parameters person please plus position process product real result search
second sent sentence server short small some speak stage state status text that there they this times token tool train
true very want weather what when with work your
""".split()
"""A token each to most tokenizers, the built-in model's included."""

TEMPLATE_TOKENS = 10
"""About what a chat template adds to a message."""

SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
"""The same draw everywhere, whatever a server's own defaults; at random, since greedy streams fall into one rut."""


class RefusedError(Exception):
    """An endpoint did not take a request, or broke it off."""


@dataclass(slots=True)
class Stream:
    """One streamed chat as its client sees it, filled while it runs. Times are perf_counter's, in seconds."""

    messages: Messages
    max_tokens: int
    options: dict[str, Any] = field(default_factory=SAMPLING.copy)
    sent: float = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """When something came, and how many tokens there were by then."""
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def start(self) -> float:
        return self.arrivals[0][0]

    @property
    def end(self) -> float:
        return self.arrivals[-1][0]

    @property
    def ttft(self) -> float:
        return self.start - self.sent

    @property
    def tokens(self) -> int:
        """So far."""
        return self.arrivals[-1][1] if self.arrivals else 0

    def tokens_by(self, when: float) -> int:
        """How many had come at a time at which some had."""
        return max(count for arrived, count in self.arrivals if arrived <= when)

    def intervals(self, begin: float = 0, end: float = float("inf")) -> list[float]:
        """Seconds from token to token within this time; those that came as one share their wait."""
        gaps = []
        for (before, had), (after, has) in zip(self.arrivals, self.arrivals[1:], strict=False):
            if begin <= before and after <= end and has > had:
                gaps += [(after - before) / (has - had)] * (has - had)
        return gaps

    def take(self, event: dict[str, Any]) -> None:
        """Note what an event brings; usage in every chunk is exact where tokens have no text of their own."""
        if "error" in event:
            raise RefusedError(str(event["error"]))
        usage = event.get("usage") or {}
        for choice in event.get("choices") or ():
            delta = choice["delta"]
            gained = delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls")
            if gained or (choice.get("finish_reason") and not self.arrivals):  # tokens may have no text
                count = usage.get("completion_tokens") or len(self.arrivals) + 1
                self.arrivals.append((time.perf_counter(), count))
                self.text += gained if isinstance(gained, str) else ""
        if usage and self.arrivals:
            self.arrivals[-1] = (self.end, usage["completion_tokens"])
            self.prompt_tokens = usage["prompt_tokens"]
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to ask, by its base URL (.../v1) and the name it has in tables and plots; see `connect`."""

    name: str
    url: str
    model: str

    @classmethod
    async def connect(cls, name: str, url: str) -> Self:
        """Ask for its model, and once for an answer: the first is slower than all others."""
        async with httpx.AsyncClient() as client:
            models = (await client.get(f"{url}/models")).raise_for_status()
        endpoint = cls(name, url, models.json()["data"][0]["id"])
        await endpoint.run(Stream(user("hello"), 8))
        return endpoint

    async def run(self, stream: Stream) -> Stream:
        """Send the stream's request and follow it to its end. Raises RefusedError."""
        body = {"model": self.model, "messages": stream.messages, "max_tokens": stream.max_tokens, "ignore_eos": True}
        body |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        stream.sent = time.perf_counter()
        async with post(f"{self.url}/chat/completions", body | stream.options) as response:
            async for event in response:
                stream.take(event)
            if response.status != 200:
                raise RefusedError(f"{response.status} {response.body.decode()[:300]}")
        if not stream.arrivals:
            raise RefusedError("a stream without a token")
        return stream

    @contextlib.asynccontextmanager
    async def running(self, streams: Sequence[Stream]) -> AsyncIterator[None]:
        """While these streams run: from when each has its first token, and broken off at the end."""
        tasks = [asyncio.create_task(self.run(stream)) for stream in streams]
        try:
            await until(
                lambda: all(stream.arrivals or task.done() for stream, task in zip(streams, tasks, strict=True))
            )
            yield
            for task in tasks:
                if task.done():
                    task.result()  # which raises what broke it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run_all(self, streams: Iterable[Stream]) -> list[Stream]:
        """All at once."""
        return await asyncio.gather(*map(self.run, streams))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, and look for it seldom: the server computes on the same cores."""
    while not condition():
        await asyncio.sleep(0.25)


def user(content: str) -> Messages:
    """A chat of one message."""
    return [{"role": "user", "content": content}]


def prompt(tokens: int, seed: object) -> str:
    """A text that with the chat template has about so many tokens, another one for each seed from its start on."""
    return words(max(1, tokens - TEMPLATE_TOKENS), seed)


def words(count: int, seed: object) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=count))


def tokens_per_second(streams: Sequence[Stream]) -> float:
    """Of what came, over the time from the first request to the last token."""
    seconds = max(stream.end for stream in streams) - min(stream.sent for stream in streams)
    return sum(stream.tokens for stream in streams) / seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
