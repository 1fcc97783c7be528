"""Compares the decode throughput that clients see with that of the raw session.

The raw session decodes a batch of random tokens in a bare loop. The server decodes as many streams over HTTP. The two
take turns. Quote the ratio of medians, because absolute numbers depend on the machine.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from benchmarks.raw import RawSession
from benchmarks.servers import OURS, Bench
from server.bench.load import Endpoint, Stream, prompt, until, user
from server.bench.report import Cell, Chart, Report

PART = "decode"
QUESTION = "Decode throughput, served and raw"
BATCHES = (1, 8, 16)
PROMPT = 64
MAX_TOKENS = 2000
"""Maximum number of tokens per stream.

It is so large that no stream ends before the last one has made its steps.
"""

SAMPLINGS: dict[str, dict[str, Any]] = {"default sampling": {}, "top_p 0.9": {"top_p": 0.9}}
COLUMNS = (
    "batch",
    "raw tokens/s",
    *(f"{name}{tail}" for name in SAMPLINGS for tail in (" tokens/s", ": served to raw")),
)


async def measure(bench: Bench) -> Report:
    """Measure the raw session and the server in turns, for each batch."""
    steps = bench.sizes.decode
    raw = RawSession(bench.folder, max(BATCHES), PROMPT + steps)
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    async with bench.endpoints() as endpoints:
        for turn in range(bench.rounds):
            for batch in BATCHES:
                for slot in range(batch):
                    raw.prefill(slot, PROMPT)
                rates[batch, raw.name].append(batch * steps / raw.decode(batch, PROMPT, steps))
                for name, sampling in SAMPLINGS.items():
                    rates[batch, name].append(await _served(endpoints[0], batch, steps, turn, sampling))
    return _report({key: median(found) for key, found in rates.items()})


async def _served(endpoint: Endpoint, batch: int, steps: int, turn: int, sampling: dict[str, Any]) -> float:
    """Return the throughput while every stream generates at least `steps` tokens."""
    streams = [
        Stream(user(prompt(PROMPT, f"{turn} {i} {sampling}")), MAX_TOKENS, sampling | {"seed": i}) for i in range(batch)
    ]
    async with endpoint.running(streams):
        before, start = [stream.tokens for stream in streams], max(stream.end for stream in streams)
        await until(lambda: all(stream.tokens - had >= steps for stream, had in zip(streams, before, strict=True)))
        end = min(stream.end for stream in streams)
    return sum(stream.tokens_by(end) - stream.tokens_by(start) for stream in streams) / (end - start)


def _report(rates: dict[tuple[int, str], float]) -> Report:
    rows: list[list[Cell]] = []
    for batch in BATCHES:
        raw = rates[batch, RawSession.name]
        served = [cell for name in SAMPLINGS for cell in (rates[batch, name], rates[batch, name] / raw)]
        rows.append([str(batch), raw, *served])
    labels = {RawSession.name: RawSession.name} | {name: f"{OURS}, {name}" for name in SAMPLINGS}
    series = {label: [(batch, rates[batch, name]) for batch in BATCHES] for name, label in labels.items()}
    return Report(PART, QUESTION, COLUMNS, rows, [Chart("Decode throughput", "streams", "tokens/s", series)])
