"""Measures throughput and TTFT with 1, 4 and 16 clients at once.

The optional baseline computes prompts and answers of the same lengths without a server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from server.bench.load import SAMPLING, Endpoint, Stream, prompt, tokens_per_second, user
from server.bench.report import Cell, Chart, Report

PART = "clients"
QUESTION = "Throughput and TTFT by number of clients"
CLIENTS = (1, 4, 16)
PROMPT, OUTPUT = 128, 32
COLUMNS = (
    "clients",
    "",
    "output tokens/s",
    "TTFT s",
    "ITL ms",
    "tokens/s: first to this",
    "TTFT: first to this",
)


class Baseline(Protocol):
    """A loop that runs the model without a server."""

    name: str

    def prefill(self, slot: int, length: int) -> float:
        """Prefill `length` tokens into an empty slot, and return the seconds taken."""

    def decode(self, batch: int, past: int, steps: int) -> float:
        """Run `steps` decode steps of `batch` slots, and return the seconds taken.

        past: number of tokens in each slot before the first step.
        """


@dataclass(slots=True)
class Figures:
    """Throughputs, TTFTs and ITLs of one server with one number of clients."""

    rates: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)

    def add(self, streams: list[Stream]) -> None:
        self.rates.append(tokens_per_second(streams))
        self.ttfts += [stream.ttft for stream in streams]
        self.intervals += [(stream.end - stream.start) / max(1, stream.tokens - 1) for stream in streams]

    def ratios(self, rate: float, ttft: float) -> tuple[float, float]:
        """Return the median throughput and TTFT, relative to another server.

        rate: median throughput of the other server.
        ttft: median TTFT of the other server.
        """
        return median(self.rates) / rate, median(self.ttfts) / ttft

    def add_baseline(self, baseline: Baseline, clients: int, lengths: tuple[int, int]) -> None:
        prompt_tokens, tokens = lengths
        waits = [baseline.prefill(slot, prompt_tokens) for slot in range(clients)]
        self.ttfts += [sum(waits[: slot + 1]) for slot in range(clients)]
        seconds = baseline.decode(clients, prompt_tokens, tokens - 1)
        self.rates.append(clients * tokens / (sum(waits) + seconds))
        self.intervals.append(seconds / (tokens - 1))


async def measure(endpoints: Sequence[Endpoint], rounds: int, baseline: Baseline | None = None) -> Report:
    """Measure all endpoints and the baseline in turn.

    The report compares the first endpoint with the others.

    baseline: must have a slot of PROMPT + OUTPUT tokens for each client; None to measure only the endpoints.
    """
    return _report(await collect(endpoints, rounds, baseline=baseline), endpoints[0].name)


async def collect(
    endpoints: Sequence[Endpoint],
    rounds: int,
    numbers: Sequence[int] = CLIENTS,
    lengths: tuple[int, int] = (PROMPT, OUTPUT),
    baseline: Baseline | None = None,
) -> dict[tuple[int, str], Figures]:
    """Measure all endpoints and the baseline in turn. Return the figures by number of clients and endpoint.

    numbers: numbers of clients.
    lengths: number of tokens of each prompt and of each answer.
    """
    figures: dict[tuple[int, str], Figures] = defaultdict(Figures)
    for turn in range(rounds):
        for clients in numbers:
            for repeat in range(max(1, 4 // clients)):
                for endpoint in endpoints:
                    streams = await _burst(endpoint, clients, lengths, f"{turn} {repeat}")
                    figures[clients, endpoint.name].add(streams)
                if baseline:
                    figures[clients, baseline.name].add_baseline(baseline, clients, lengths)
    return figures


async def _burst(endpoint: Endpoint, clients: int, lengths: tuple[int, int], seed: str) -> list[Stream]:
    prompts = [prompt(lengths[0], f"{seed} {clients} {client}") for client in range(clients)]
    return await endpoint.run_all(
        Stream(user(text), lengths[1], {**SAMPLING, "seed": client}) for client, text in enumerate(prompts)
    )


def _report(figures: dict[tuple[int, str], Figures], first: str) -> Report:
    rows: list[list[Cell]] = []
    rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
    ttfts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (clients, name), found in sorted(figures.items(), key=lambda item: item[0][0]):
        reference = figures[clients, first]
        rate, ttft = median(found.rates), median(found.ttfts)
        ratios = (None, None) if found is reference else reference.ratios(rate, ttft)
        rows.append([str(clients), name, rate, ttft, median(found.intervals) * 1e3, *ratios])
        rates[name].append((clients, rate))
        ttfts[name].append((clients, ttft))
    charts = [
        Chart("Output of all clients", "clients", "tokens/s", dict(rates)),
        Chart("TTFT, median", "clients", "seconds", dict(ttfts)),
    ]
    return Report(PART, QUESTION, COLUMNS, rows, charts)
