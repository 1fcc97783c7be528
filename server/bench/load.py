"""Runs streamed chats on an OpenAI-compatible endpoint, and times their tokens."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import httpx

from server.bench.wire import post
from server.client.urls import NamedUrl, key_header
from server.errors import LfmServeError

Messages = list[dict[str, str]]

WORDS = """
about another answer assistant base been call candidate chat city current date degrees fact false fast find fine first
found friend from gets have help here into know language like limit little live long look many meet message minutes
model more most much name need number order parameters person please plus position process product real result search
second sent sentence server short small some speak stage state status text that there they this times token tool train
true very want weather what when with work your
""".split()
"""Words that are one token each in most tokenizers."""

TEMPLATE_TOKENS = 10
"""Approximate number of tokens that a chat template adds to a message."""

SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
"""Sampling parameters of every request.

They replace the servers' defaults, which may differ. Greedy streams would end up repeating one phrase.
"""


EXTENSIONS = ("ignore_eos", "top_k", "min_p", "repetition_penalty")
"""Fields beyond OpenAI's, left out if an endpoint rejects them."""


class RefusedError(LfmServeError):
    """An endpoint cannot be reached, rejects a request or breaks off its answer."""


@dataclass(slots=True)
class Stream:
    """One streamed chat as its client sees it, updated while it runs.

    Times are seconds of `time.perf_counter`.
    """

    messages: Messages
    max_tokens: int
    options: dict[str, Any] = field(default_factory=SAMPLING.copy)
    sent: float = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """Arrival time and total number of tokens so far, for each event with tokens."""
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
        """Number of tokens received so far."""
        return self.arrivals[-1][1] if self.arrivals else 0

    def tokens_by(self, when: float) -> int:
        """Return the number of tokens received up to the time `when`.

        when: must not be before the first token.
        """
        return max(count for arrived, count in self.arrivals if arrived <= when)

    def intervals(self, begin: float = 0, end: float = float("inf")) -> list[float]:
        """Return the ITLs between `begin` and `end`, in seconds.

        If an event has n tokens, the time since the previous event counts as n equal intervals.
        """
        gaps = []
        for (before, had), (after, has) in zip(self.arrivals, self.arrivals[1:], strict=False):
            if begin <= before and after <= end and has > had:
                gaps += [(after - before) / (has - had)] * (has - had)
        return gaps

    def take(self, event: dict[str, Any]) -> None:
        """Record an event of the stream.

        Uses the token count in the event, if there is one, because a token may have no text.
        Raises RefusedError if the event is an error.
        """
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
    """A server's base URL (.../v1), its model, and its name in tables and plots.

    extended: whether the server accepts EXTENSIONS; if not, answers may end early.
    """

    name: str
    url: str
    model: str
    key: str | None = None
    extended: bool = True

    @classmethod
    async def connect(cls, server: NamedUrl, key: str | None = None, model: str | None = None) -> Self:
        """Return the endpoint of a server, after a first answer to warm it up.

        model: model to request; None for the first model that the server lists.
        """
        endpoint = cls(server.name, server.url, model or await _first_model(server, key), key)
        try:
            await endpoint.run(Stream(user("hello"), 8))
        except RefusedError:
            endpoint = replace(endpoint, extended=False)
            await endpoint.run(Stream(user("hello"), 8))
        return endpoint

    async def run(self, stream: Stream) -> Stream:
        """Send the stream's request and read its answer to the end.

        Raises RefusedError if the server cannot be reached, rejects the request or breaks off the answer.
        """
        body = {"model": self.model, "messages": stream.messages, "max_tokens": stream.max_tokens, "ignore_eos": True}
        usage = {"include_usage": True} | ({"continuous_usage_stats": True} if self.extended else {})
        body |= {"stream": True, "stream_options": usage, **stream.options}
        if not self.extended:
            body = {name: value for name, value in body.items() if name not in EXTENSIONS}
        stream.sent = time.perf_counter()
        try:
            async with post(f"{self.url}/chat/completions", body, key_header(self.key)) as response:
                async for event in response:
                    stream.take(event)
        except OSError as error:
            raise RefusedError(f"{self.url} cannot be reached: {error}") from error
        if response.status != 200:
            raise RefusedError(f"{response.status} {response.body.decode(errors='replace')[:300]}")
        if not stream.arrivals:
            raise RefusedError("The stream ended without a token.")
        return stream

    @contextlib.asynccontextmanager
    async def running(self, streams: Sequence[Stream]) -> AsyncIterator[None]:
        """Run `streams` during a `with` block.

        The block starts when every stream has a token. Streams that still run at its end are cancelled.

        Raises RefusedError if a stream fails.
        """
        tasks = [asyncio.create_task(self.run(stream)) for stream in streams]
        try:
            await until(
                lambda: all(stream.arrivals or task.done() for stream, task in zip(streams, tasks, strict=True))
            )
            yield
            for task in tasks:
                if task.done():
                    task.result()  # raises the error that ended the stream, if any
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run_all(self, streams: Iterable[Stream]) -> list[Stream]:
        """Run all `streams` at once, and return them when all have ended."""
        return await asyncio.gather(*map(self.run, streams))


async def _first_model(server: NamedUrl, key: str | None) -> str:
    """Return the first model that the server lists.

    Raises RefusedError if there is none or the request fails.
    """
    try:
        async with httpx.AsyncClient(headers=key_header(key)) as client:
            response = (await client.get(f"{server.url}/models")).raise_for_status()
        return str(response.json()["data"][0]["id"])
    except httpx.HTTPStatusError as error:
        raise RefusedError(f"{error.request.url}: {error.response.status_code} {error.response.text[:300]}") from error
    except httpx.HTTPError as error:
        raise RefusedError(f"{server.url} cannot be reached: {error or type(error).__name__}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise RefusedError(f"{server.url}/models lists no models: is this an OpenAI endpoint?") from error


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true.

    Checks it only every 250 ms, to leave the cores to the server.
    """
    while not condition():
        await asyncio.sleep(0.25)


def user(content: str) -> Messages:
    """Return a chat of one user message."""
    return [{"role": "user", "content": content}]


def prompt(tokens: int, seed: object) -> str:
    """Return a random text of about `tokens` tokens, including the chat template.

    Texts of different seeds share no prefix.
    """
    return words(max(1, tokens - TEMPLATE_TOKENS), seed)


def words(count: int, seed: object) -> str:
    """Return `count` random words; equal seeds give equal words."""
    return " ".join(random.Random(str(seed)).choices(WORDS, k=count))


def tokens_per_second(streams: Sequence[Stream]) -> float:
    """Return the throughput of all streams together.

    The time runs from the first request to the last token.
    """
    seconds = max(stream.end for stream in streams) - min(stream.sent for stream in streams)
    return sum(stream.tokens for stream in streams) / seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile without interpolation: percentile 50 of 1, 2, 3, 4 is 3."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
