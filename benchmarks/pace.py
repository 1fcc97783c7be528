"""How even do streams run while a long prompt comes in, and what does that cost the prompt?

Some streams write; then one long prompt is sent. Compared are the time from token to token before it and while it is
read, and the time that it takes alone and beside the streams. One round: it has hundreds of intervals.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load import Endpoint, RefusedError, Stream, percentile, prompt, user
from benchmarks.report import Cell, Chart, Report, refused_row
from benchmarks.servers import Bench, Sizes

PART = "pace"
QUESTION = "Time from token to token while a long prompt is read"
STREAMS = (1, 4, 8)
PROMPT = 64
MOST_TOKENS = 3000
COLUMNS = (
    "streams",
    "",
    "idle p50 ms",
    "idle p99 ms",
    "beside the prompt p50 ms",
    "beside the prompt p99 ms",
    "p99: beside to idle",
    "prompt alone s",
    "prompt beside s",
    "beside to alone",
)


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals of `streams` without and with a long prompt beside them, and the prompt's own times; seconds."""

    streams: int
    idle: Sequence[float]
    beside: Sequence[float]
    prompt_alone: float
    prompt_beside: float

    def row(self, name: str) -> list[Cell]:
        idle, beside = percentile(self.idle, 99), percentile(self.beside, 99)
        times = [percentile(self.idle, 50), idle, percentile(self.beside, 50), beside]
        prompts = [self.prompt_alone, self.prompt_beside, self.prompt_beside / self.prompt_alone]
        return [str(self.streams), name, *(seconds * 1e3 for seconds in times), beside / idle, *prompts]


async def measure(bench: Bench) -> Report:
    """One server after the other."""
    rows: list[list[Cell]] = []
    ours: list[Pace] = []
    async with bench.endpoints() as endpoints:
        for endpoint in endpoints:
            try:
                paces = await paces_of(endpoint, STREAMS, bench.sizes)
            except RefusedError as refusal:
                rows.append(refused_row(COLUMNS, "", endpoint.name, refusal))
                continue
            rows += [pace.row(endpoint.name) for pace in paces]
            ours = ours or paces
    names = [f"{pace.streams} stream{'s' * (pace.streams > 1)}" for pace in ours]
    return Report(PART, QUESTION, COLUMNS, rows, charts(names, ours))


async def paces_of(endpoint: Endpoint, counts: Sequence[int], sizes: Sizes) -> list[Pace]:
    """For each number of streams; the prompts are all different."""
    alone = (await endpoint.run(_long(sizes, "alone"))).ttft
    return [await _pace(endpoint, count, sizes, alone) for count in counts]


async def _pace(endpoint: Endpoint, count: int, sizes: Sizes, alone: float) -> Pace:
    streams = [Stream(user(prompt(PROMPT, f"{count} {i}")), MOST_TOKENS) for i in range(count)]
    async with endpoint.running(streams):
        start = time.perf_counter()
        await asyncio.sleep(sizes.idle_seconds)
        long = await endpoint.run(_long(sizes, count))
    idle = [seconds for stream in streams for seconds in stream.intervals(start, long.sent)]
    beside = [seconds for stream in streams for seconds in stream.intervals(long.sent, long.start)]
    return Pace(count, idle, beside, alone, long.ttft)


def _long(sizes: Sizes, seed: object) -> Stream:
    return Stream(user(prompt(sizes.long_prompt, f"long {seed}")), 1)


def charts(names: Sequence[str], paces: Sequence[Pace]) -> list[Chart]:
    """Bars for each of the named."""
    intervals = {
        f"{when}, p{percent}": [
            (name, percentile(values, percent) * 1e3)
            for name, values in zip(names, (getattr(pace, when) for pace in paces), strict=True)
        ]
        for when in ("idle", "beside")
        for percent in (50, 99)
    }
    prompts = {
        "alone": [(name, pace.prompt_alone) for name, pace in zip(names, paces, strict=True)],
        "beside the streams": [(name, pace.prompt_beside) for name, pace in zip(names, paces, strict=True)],
    }
    return [
        Chart("Time from token to token", "", "ms", intervals, "bars"),
        Chart("The long prompt", "", "seconds", prompts, "bars"),
    ]
