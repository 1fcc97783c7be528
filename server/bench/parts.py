"""Runs the benchmarks of `lfm-serve bench` and publishes their reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.bench import clients, pace, prefixes
from server.bench.clients import Baseline
from server.bench.load import Endpoint
from server.bench.report import Report, summarize

PARTS = (clients.PART, pace.PART, prefixes.PART)
NO_PLOTS = "There are no plots, because matplotlib is not installed. Install it: pip install 'lfm-serve[bench]'"


@dataclass(frozen=True, slots=True)
class Work:
    """The extent of the benchmarks.

    rounds: how often the benchmarks `clients` and `prefixes` measure each endpoint.
    pace: sizes for the benchmark `pace`.
    """

    rounds: int
    pace: pace.Sizes


async def measure(part: str, endpoints: Sequence[Endpoint], work: Work, baseline: Baseline | None = None) -> Report:
    """Run the benchmark `part`, one of PARTS, and return its report.

    baseline: used by the benchmark `clients` only.
    """
    if part == clients.PART:
        return await clients.measure(endpoints, work.rounds, baseline)
    if part == pace.PART:
        return await pace.measure(endpoints, work.pace)
    return await prefixes.measure(endpoints, work.rounds)


def publish(report: Report, out: Path, parts: Sequence[str], say: Callable[[str], None]) -> None:
    """Print the report, and save it in `out` as JSON, as SVG and in the summary.

    parts: all benchmarks, in the order of the summary.
    say: receives a message if there is no SVG because matplotlib is missing.
    """
    report.save(out)
    print(report.markdown(), flush=True)
    summarize(out, parts)
    try:
        from server.bench.plots import draw  # imported here because matplotlib is an extra
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        say(NO_PLOTS)
        return
    draw(report, out / f"{report.part}.svg")
