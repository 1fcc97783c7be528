"""Measures how steady streams are during the prefill of a long prompt.

The report compares ITLs before and during the prefill, and the prompt's TTFT with and without streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from server.bench.load import Endpoint, RefusedError, Stream, percentile, prompt, user
from server.bench.report import Cell, Chart, Report, refused_row

PART = "pace"
QUESTION = "ITL during the prefill of a long prompt"
STREAMS = (1, 4, 8)
PROMPT = 64
MAX_TOKENS = 3000
COLUMNS = (
    "streams",
    "",
    "idle p50 ms",
    "idle p99 ms",
    "during prefill p50 ms",
    "during prefill p99 ms",
    "p99: prefill to idle",
    "prompt alone s",
    "prompt beside streams s",
    "beside to alone",
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a measurement.

    long_prompt: number of tokens in the long prompt.
    idle_seconds: how long streams decode before the prompt is sent.
    """

    long_prompt: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """Times, in seconds, of one run: a long prompt arrives while streams decode.

    streams: number of streams.
    idle, during_prefill: ITLs before and during the prefill.
    prompt_alone, prompt_beside: TTFT of the prompt without and with streams.
    """

    streams: int
    idle: Sequence[float]
    during_prefill: Sequence[float]
    prompt_alone: float
    prompt_beside: float

    def row(self, name: str) -> list[Cell]:
        idle, during = percentile(self.idle, 99), percentile(self.during_prefill, 99)
        times = [percentile(self.idle, 50), idle, percentile(self.during_prefill, 50), during]
        prompts = [self.prompt_alone, self.prompt_beside, self.prompt_beside / self.prompt_alone]
        return [str(self.streams), name, *(seconds * 1e3 for seconds in times), during / idle, *prompts]


async def measure(endpoints: Sequence[Endpoint], sizes: Sizes) -> Report:
    """Measure the endpoints one after the other.

    The charts show the first endpoint that rejected no request.
    """
    rows: list[list[Cell]] = []
    shown: list[Pace] = []
    for endpoint in endpoints:
        try:
            paces = await paces_of(endpoint, STREAMS, sizes)
        except RefusedError as refusal:
            rows.append(refused_row(COLUMNS, "", endpoint.name, refusal))
            continue
        rows += [pace.row(endpoint.name) for pace in paces]
        shown = shown or paces
    names = [f"{pace.streams} stream{'s' * (pace.streams > 1)}" for pace in shown]
    return Report(PART, QUESTION, COLUMNS, rows, charts(names, shown))


async def paces_of(endpoint: Endpoint, counts: Sequence[int], sizes: Sizes) -> list[Pace]:
    """Measure ITLs and TTFTs once for each number of streams in `counts`.

    All prompts differ from the first token on, so that none is cached.
    """
    alone = (await endpoint.run(_long(sizes, "alone"))).ttft
    return [await _pace(endpoint, count, sizes, alone) for count in counts]


async def _pace(endpoint: Endpoint, count: int, sizes: Sizes, alone: float) -> Pace:
    streams = [Stream(user(prompt(PROMPT, f"{count} {i}")), MAX_TOKENS) for i in range(count)]
    async with endpoint.running(streams):
        start = time.perf_counter()
        await asyncio.sleep(sizes.idle_seconds)
        long = await endpoint.run(_long(sizes, count))
    idle = [seconds for stream in streams for seconds in stream.intervals(start, long.sent)]
    during_prefill = [seconds for stream in streams for seconds in stream.intervals(long.sent, long.start)]
    return Pace(count, idle, during_prefill, alone, long.ttft)


def _long(sizes: Sizes, seed: object) -> Stream:
    return Stream(user(prompt(sizes.long_prompt, f"long {seed}")), 1)


def charts(names: Sequence[str], paces: Sequence[Pace]) -> list[Chart]:
    """Return a bar chart of ITLs and one of TTFTs.

    names: labels of the groups of bars, one for each of `paces`.
    """
    phases = {
        "idle": [pace.idle for pace in paces],
        "during prefill": [pace.during_prefill for pace in paces],
    }
    intervals = {
        f"{phase}, p{percent}": [
            (name, percentile(values, percent) * 1e3) for name, values in zip(names, found, strict=True)
        ]
        for phase, found in phases.items()
        for percent in (50, 99)
    }
    prompts = {
        "alone": [(name, pace.prompt_alone) for name, pace in zip(names, paces, strict=True)],
        "beside streams": [(name, pace.prompt_beside) for name, pace in zip(names, paces, strict=True)],
    }
    return [
        Chart("ITL", "", "ms", intervals, "bars"),
        Chart("TTFT of the long prompt", "", "seconds", prompts, "bars"),
    ]
