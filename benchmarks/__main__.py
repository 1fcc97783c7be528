"""Measures the server's speed against the raw session and other endpoints.

    python -m benchmarks [--model FOLDER] [--only clients,decode] [--against [NAME=]URL ...]

Each part answers one question with a table, which is saved as JSON, as an SVG plot and in summary.md. The built-in
model, the default, is too small for figures worth quoting.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import chunks, decode, forced, memory
from benchmarks.raw import RawSession
from benchmarks.servers import Bench
from server.bench import clients, pace, prefixes
from server.bench.machine import describe_machine
from server.bench.parts import Work, measure, publish
from server.bench.report import Report
from server.client.urls import named_url
from server.runtime.model_folder import open_model_folder

RESULTS = Path(__file__).parents[1] / "docs" / "results"


async def measure_clients(bench: Bench) -> Report:
    raw = RawSession(bench.folder, max(clients.CLIENTS), clients.PROMPT + clients.OUTPUT) if bench.raw else None
    return await measure_endpoints(clients.PART, bench, raw)


async def measure_endpoints(part: str, bench: Bench, raw: RawSession | None = None) -> Report:
    async with bench.endpoints() as endpoints:
        return await measure(part, endpoints, Work(bench.rounds, bench.sizes.pace), raw)


PARTS: dict[str, Callable[[Bench], Coroutine[Any, Any, Report]]] = {
    clients.PART: measure_clients,
    pace.PART: partial(measure_endpoints, pace.PART),
    chunks.PART: chunks.measure,
    prefixes.PART: partial(measure_endpoints, prefixes.PART),
    decode.PART: decode.measure,
    forced.PART: forced.measure,
    memory.PART: memory.measure,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the chosen parts, or draw them again with --redraw."""
    options = _parser().parse_args(argv)
    bench = Bench(options.model, tuple(options.against), options.rounds, not options.no_raw)
    out = options.out or RESULTS / (options.model.name if options.model else "built-in")
    for part in options.only:
        if options.redraw:
            report = Report.load(out / f"{part}.json")
        else:
            report = asyncio.run(PARTS[part](bench))
            report = dataclasses.replace(report, machine=describe_machine(), model=describe_model(bench.folder))
        publish(report, out, tuple(PARTS), print)
    print(f"Results: {out}")


def describe_model(path: Path) -> str:
    """Return the model's name, dtype and size."""
    folder = open_model_folder(path)
    size = sum(file.stat().st_size for file in folder.graph.parent.glob(f"{folder.graph.name}*"))
    return f"{path.name} in {folder.dtype} ({size / 1e9:.2g} GB)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="model folder (default: the built-in model)")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"parts: {','.join(PARTS)} (default: all)")
    parser.add_argument(
        "--against",
        action="append",
        type=named_url,
        default=[],
        metavar="[NAME=]URL",
        help="base URL (.../v1) of another endpoint to measure; may be repeated",
    )
    parser.add_argument("--rounds", type=int, default=2, help="times each server is measured, in turns (default: 2)")
    parser.add_argument(
        "--no-raw",
        action="store_true",
        help="measure clients without the raw session, which loads the weights a second time",
    )
    parser.add_argument("--redraw", action="store_true", help="draw saved results again without measuring")
    parser.add_argument("--out", type=Path, help="folder for results (default: docs/results/<model>)")
    return parser


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - PARTS.keys():
        raise argparse.ArgumentTypeError(f"unknown part {', '.join(sorted(unknown))} (choose from {', '.join(PARTS)})")
    return parts


if __name__ == "__main__":
    main()
