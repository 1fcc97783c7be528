"""How much of the raw session's decode throughput does a client get?

The raw session decodes a batch of random tokens in a bare loop. The server decodes as many streams at once over HTTP,
with the model's default sampling and with top_p, counted by usage while all of them decode. Both stay loaded and take
turns; the ratio of medians is what to quote, absolute numbers move with the machine.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from benchmarks.clients import RAW
from benchmarks.load import Endpoint, Stream, prompt, until, user
from benchmarks.raw import RawSession
from benchmarks.report import Cell, Chart, Report
from benchmarks.servers import OURS, Bench

PART = "decode"
QUESTION = "Decode throughput, served against the raw session"
BATCHES = (1, 8, 16)
PROMPT = 64
MOST_TOKENS = 2000
"""More than the first stream writes until the last one's prompt is read and the steps are made."""

SAMPLINGS: dict[str, dict[str, Any]] = {"default sampling": {}, "top_p 0.9": {"top_p": 0.9}}
COLUMNS = (
    "batch",
    "raw tokens/s",
    *(f"{name}{tail}" for name in SAMPLINGS for tail in (" tokens/s", ": served to raw")),
)


async def measure(bench: Bench) -> Report:
    """Raw and served in turns, for each batch."""
    steps = bench.sizes.decode_tokens
    raw = RawSession(bench.folder, max(BATCHES), PROMPT + steps)
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    async with bench.endpoints() as endpoints:
        for turn in range(bench.rounds):
            for batch in BATCHES:
                for slot in range(batch):
                    raw.prefill(slot, PROMPT)
                rates[batch, RAW].append(batch * steps / raw.decode(batch, PROMPT, steps))
                for name, sampling in SAMPLINGS.items():
                    rates[batch, name].append(await _served(endpoints[0], batch, steps, turn, sampling))
    return _report({key: median(found) for key, found in rates.items()})


async def _served(endpoint: Endpoint, batch: int, steps: int, turn: int, sampling: dict[str, Any]) -> float:
    """From when all streams run until each has made that many steps."""
    streams = [
        Stream(user(prompt(PROMPT, f"{turn} {i} {sampling}")), MOST_TOKENS, sampling | {"seed": i})
        for i in range(batch)
    ]
    async with endpoint.running(streams):
        before, start = [stream.tokens for stream in streams], max(stream.end for stream in streams)
        await until(lambda: all(stream.tokens - had >= steps for stream, had in zip(streams, before, strict=True)))
        end = min(stream.end for stream in streams)
    return sum(stream.tokens_by(end) - stream.tokens_by(start) for stream in streams) / (end - start)


def _report(rates: dict[tuple[int, str], float]) -> Report:
    rows: list[list[Cell]] = []
    for batch in BATCHES:
        raw = rates[batch, RAW]
        served = [cell for name in SAMPLINGS for cell in (rates[batch, name], rates[batch, name] / raw)]
        rows.append([str(batch), raw, *served])
    series: dict[str, list[tuple[float, float]]] = {
        name if name == RAW else f"{OURS}, {name}": [(batch, rates[batch, name]) for batch in BATCHES]
        for name in (RAW, *SAMPLINGS)
    }
    return Report(PART, QUESTION, COLUMNS, rows, [Chart("Decode throughput", "streams", "tokens/s", series)])
