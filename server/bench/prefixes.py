"""Measures how much a cached prefix shortens the TTFT.

Each scenario compares prompts with a cached prefix to prompts of about the same length without one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

from server.bench.load import Endpoint, Messages, RefusedError, Stream, prompt, user, words
from server.bench.report import Cell, Chart, Report, refused_row

PART = "prefixes"
QUESTION = "TTFT by length of the cached prefix"
LENGTH = 960
CACHED = (0, 128, 256, 512, 704, 896)
ANSWER = 8
COLUMNS = ("", "server", "cold TTFT s", "warm TTFT s", "warm to cold", "tokens from the cache", "of prompt tokens")


@dataclass(frozen=True, slots=True)
class Pair:
    """Streams with prompts of about equal length.

    cold: streams whose prompts have no cached prefix.
    warm: streams whose prompts begin with a cached prefix.
    """

    cold: list[Stream]
    warm: list[Stream]


async def measure(endpoints: Sequence[Endpoint], rounds: int) -> Report:
    """Measure all endpoints in turn, and report medians over all rounds."""
    pairs: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    refusals: dict[tuple[str, str], RefusedError] = {}
    curves: dict[tuple[str, int], list[float]] = defaultdict(list)
    for turn in range(rounds):
        for endpoint in endpoints:
            for name, scenario in SCENARIOS.items():
                try:
                    pairs[name, endpoint.name].append(await scenario(endpoint, f"{turn} {name}"))
                except RefusedError as refusal:
                    refusals[name, endpoint.name] = refusal
            for cached in CACHED:
                curves[endpoint.name, cached].append(await _ttft_with(endpoint, cached, turn))
    rows = [_row(name, endpoint, found) for (name, endpoint), found in pairs.items()]
    rows += [refused_row(COLUMNS, *place, refusal) for place, refusal in refusals.items()]
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (name, cached), ttfts in curves.items():
        series[name].append((cached, median(ttfts)))
    title = f"TTFT of prompts of {LENGTH} tokens"
    return Report(PART, QUESTION, COLUMNS, rows, [Chart(title, "cached tokens", "seconds", dict(series))])


async def second_turn(endpoint: Endpoint, seed: str) -> Pair:
    """Run two turns of a conversation of about 1,000 tokens.

    The first turn is cold, the second is warm.
    """
    first = await endpoint.run(Stream(user(prompt(1000, f"{seed} first")), ANSWER))
    history = [*first.messages, {"role": "assistant", "content": first.text}]
    return Pair([first], [await endpoint.run(Stream([*history, *user(words(10, seed))], ANSWER))])


async def shared_start(endpoint: Endpoint, seed: str) -> Pair:
    """Run 4 prompts of 300 tokens at once: cold, then with 256 tokens cached."""
    shared = prompt(256, f"{seed} shared")
    cold = await endpoint.run_all(Stream(user(prompt(300, f"{seed} cold {i}")), ANSWER) for i in range(4))
    prompts = [user(f"{shared} {words(44, f'{seed} {i}')}") for i in range(6)]
    for earlier in prompts[:2]:
        await endpoint.run(Stream(earlier, ANSWER))
    return Pair(cold, await endpoint.run_all(Stream(later, ANSWER) for later in prompts[2:]))


async def system_prompt(endpoint: Endpoint, seed: str) -> Pair:
    """Run 16 requests at once, twice, with system prompts of 256 tokens.

    The first time (cold), each request has its own system prompt. The second time (warm), all share one.
    """

    def chats(kind: str, shared: bool) -> list[Messages]:
        systems = [words(256, f"{seed} {kind} {0 if shared else i}") for i in range(16)]
        questions = [user(words(16, f"{seed} {kind} question {i}")) for i in range(16)]
        return [[{"role": "system", "content": s}, *q] for s, q in zip(systems, questions, strict=True)]

    cold = await endpoint.run_all(Stream(chat, ANSWER) for chat in chats("own", shared=False))
    return Pair(cold, await endpoint.run_all(Stream(chat, ANSWER) for chat in chats("one", shared=True)))


SCENARIOS: dict[str, Callable[[Endpoint, str], Awaitable[Pair]]] = {
    "second turn after 1,000 tokens": second_turn,
    "256 of 300 tokens shared, 4 clients": shared_start,
    "one system prompt of 256 tokens, 16 requests": system_prompt,
}


async def _ttft_with(endpoint: Endpoint, cached: int, turn: int) -> float:
    """Return the TTFT of a prompt that shares `cached` tokens with an earlier one."""
    seed = f"{turn} {cached} curve"
    start = prompt(cached, seed) if cached else ""
    if cached:
        await endpoint.run(Stream(user(f"{start} {words(16, f'{seed} first')}"), 1))
    rest = words(LENGTH - cached, f"{seed} second")
    return (await endpoint.run(Stream(user(f"{start} {rest}".strip()), 1))).ttft


def _row(name: str, endpoint: str, pairs: list[Pair]) -> list[Cell]:
    cold = median(stream.ttft for pair in pairs for stream in pair.cold)
    warm = median(stream.ttft for pair in pairs for stream in pair.warm)
    taken = sum(stream.cached_tokens for pair in pairs for stream in pair.warm)
    total = sum(stream.prompt_tokens for pair in pairs for stream in pair.warm)
    return [name, endpoint, cold, warm, warm / cold, float(taken), float(total)]
