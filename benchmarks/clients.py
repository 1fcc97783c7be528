"""How many tokens a second come, and how soon the first, for 1, 4 and 16 clients at once?

Each client sends a prompt of its own and reads its answer. The raw session does the same work in a bare loop: prompts
one after another, then all sequences in one batch. All take turns; medians over everything measured.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from benchmarks.load import Endpoint, Stream, prompt, tokens_per_second, user
from benchmarks.raw import RawSession
from benchmarks.report import Cell, Chart, Report
from benchmarks.servers import OURS, Bench

PART = "clients"
QUESTION = "Tokens a second and time to first token against clients"
CLIENTS = (1, 4, 16)
PROMPT, OUTPUT = 128, 32
COLUMNS = (
    "clients",
    "",
    "output tokens/s",
    "TTFT s",
    "between tokens ms",
    "tokens/s: ours to this",
    "TTFT: ours to this",
)
RAW = "raw session"


@dataclass(slots=True)
class Figures:
    """What was measured of one server with one number of clients, in tokens a second and seconds."""

    rates: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)

    def add(self, streams: list[Stream]) -> None:
        self.rates.append(tokens_per_second(streams))
        self.ttfts += [stream.ttft for stream in streams]
        self.intervals += [(stream.end - stream.start) / (stream.tokens - 1) for stream in streams]

    def add_raw(self, raw: RawSession, clients: int) -> None:
        waits = [raw.prefill(slot, PROMPT) for slot in range(clients)]
        self.ttfts += [sum(waits[: slot + 1]) for slot in range(clients)]
        seconds = raw.decode(clients, PROMPT, OUTPUT - 1)
        self.rates.append(clients * OUTPUT / (sum(waits) + seconds))
        self.intervals.append(seconds / (OUTPUT - 1))


async def measure(bench: Bench) -> Report:
    """Ask all of them in turns."""
    figures: dict[tuple[int, str], Figures] = defaultdict(Figures)
    raw = RawSession(bench.folder, max(CLIENTS), PROMPT + OUTPUT) if bench.raw else None
    async with bench.endpoints() as endpoints:
        for turn in range(bench.rounds):
            for clients in CLIENTS:
                for repeat in range(max(1, 4 // clients)):
                    for endpoint in endpoints:
                        streams = await _burst(endpoint, clients, f"{turn} {repeat}")
                        figures[clients, endpoint.name].add(streams)
                    if raw:
                        figures[clients, RAW].add_raw(raw, clients)
    return _report(figures)


async def _burst(endpoint: Endpoint, clients: int, seed: str) -> list[Stream]:
    prompts = [prompt(PROMPT, f"{seed} {clients} {client}") for client in range(clients)]
    return await endpoint.run_all(Stream(user(text), OUTPUT) for text in prompts)


def _report(figures: dict[tuple[int, str], Figures]) -> Report:
    rows: list[list[Cell]] = []
    rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
    ttfts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (clients, name), found in sorted(figures.items(), key=lambda item: item[0][0]):
        ours = figures[clients, OURS]
        rate, ttft = median(found.rates), median(found.ttfts)
        ratios = (None, None) if found is ours else (median(ours.rates) / rate, median(ours.ttfts) / ttft)
        rows.append([str(clients), name, rate, ttft, median(found.intervals) * 1e3, *ratios])
        rates[name].append((clients, rate))
        ttfts[name].append((clients, ttft))
    charts = [
        Chart("Output, all clients together", "clients", "tokens/s", dict(rates)),
        Chart("Time to first token, median", "clients", "seconds", dict(ttfts)),
    ]
    return Report(PART, QUESTION, COLUMNS, rows, charts)
