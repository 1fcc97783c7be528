"""How fast the server is, against the raw session and against others, on the same work in one run.

    python -m benchmarks [--model FOLDER] [--only clients,decode] [--against [NAME=]URL ...]

Answers each question (a file of this folder), prints its table, and keeps it as JSON and SVG, with all tables in
summary.md. Without a model it takes the built-in one, which needs a minute or two; the answers are then small too.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from benchmarks import chunks, clients, decode, forced, memory, pace, prefixes
from benchmarks.draw import draw
from benchmarks.machine import describe_machine, describe_model
from benchmarks.report import Report, summarize
from benchmarks.servers import Bench

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PARTS: dict[str, Callable[[Bench], Coroutine[Any, Any, Report]]] = {
    module.PART: module.measure for module in (clients, pace, chunks, prefixes, decode, forced, memory)
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or with --redraw only draw, what was asked for."""
    options = _parser().parse_args(argv)
    bench = Bench(options.model, tuple(options.against), options.rounds, not options.no_raw)
    out = options.out or RESULTS / (options.model.name if options.model else "built-in")
    for part in options.only:
        if not options.redraw:
            report = asyncio.run(PARTS[part](bench))
            dataclasses.replace(report, machine=describe_machine(), model=describe_model(bench.folder)).save(out)
        report = Report.load(out / f"{part}.json")
        draw(report, out / f"{part}.svg")
        print(report.markdown(), flush=True)
    summarize(out, tuple(PARTS))
    print(f"Kept in {out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a model folder (default: the built-in model)")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    parser.add_argument(
        "--against", action="append", default=[], metavar="[NAME=]URL", help="an endpoint's base URL (.../v1)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured, in turns (default: 2)")
    parser.add_argument(
        "--no-raw",
        action="store_true",
        help="clients without the raw session, which needs the weights again",
    )
    parser.add_argument("--redraw", action="store_true", help="measure nothing, draw what was measured before")
    parser.add_argument("--out", type=Path, help="where results go (default: docs/results/<model>)")
    return parser


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - PARTS.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is not among {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    main()
