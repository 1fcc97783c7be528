"""Long tests of a server, and of two replicas, under load.

    python -m benchmarks.soak [PART ...] [--scale 0.1]

Servers on the built-in model, nginx (Debian's package) and clients run on one machine. Each part prints and checks its
figures. The exit code is 1 if a check fails. All parts together take an hour.

`overload`, `steady` and `leaving` load one server. `totals` compares its metrics with what their clients counted.
`stored` stores 10,000 responses in memory, and 10,000 in a file. `kernels` needs a C compiler.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.soak import hostile, kernels, leaving, long_prompt, one_key, overload, replicas, steady, stored, totals
from benchmarks.soak.clients import Tally
from benchmarks.soak.report import Report
from benchmarks.soak.server import running
from tests.fleet import Service

SLOTS, WAITING = 8, 32
CACHE_MEBIBYTES = 64
"""Size of a cache that is full within a minute, so that later growth is a leak."""
ON_ONE_SERVER = ("overload", "steady", "leaving")
PARTS = ("replicas", *ON_ONE_SERVER, "totals", "hostile", "one-key", "stored", "long-prompt", "kernels")


async def soak(parts: list[str], scale: float, folder: Path) -> list[str]:
    """Run the parts, and return the failed checks."""
    reports = {part: Report(part) for part in PARTS}
    if "replicas" in parts:
        await replicas.run(reports["replicas"], _new(folder / "replicas"), 180 * scale)
    if {*parts} & {*ON_ONE_SERVER}:
        options = ("--max-seqs", str(SLOTS), "--max-waiting", str(WAITING), "--cache-memory", str(CACHE_MEBIBYTES))
        async with running(folder / "server", *options) as server:
            await _on_one_server(parts, reports, server, scale)
    if "hostile" in parts:
        options = ("--max-seqs", str(2 * SLOTS), "--cache-memory", str(CACHE_MEBIBYTES))
        async with running(folder / "hostile", *options) as server:
            await hostile.run(reports["hostile"], server, Tally(), 1200 * scale)
    if "one-key" in parts:
        async with running(folder / "one-key", "--api-keys-file", str(one_key.write_keys(folder))) as server:
            await one_key.run(reports["one-key"], server, 120 * scale)
    if "stored" in parts:
        await stored.run(reports["stored"], _new(folder / "stored"), round(10_000 * scale))
    if "long-prompt" in parts:
        await long_prompt.run(reports["long-prompt"], _new(folder / "long-prompt"), 90 * scale)
    if "kernels" in parts:
        await kernels.run(reports["kernels"], _new(folder / "kernels"), 300 * scale)
    return [failure for report in reports.values() for failure in report.failures]


async def _on_one_server(parts: list[str], reports: dict[str, Report], server: Service, scale: float) -> None:
    tally = Tally()
    if "overload" in parts:
        await overload.run(reports["overload"], server, tally, SLOTS, WAITING, 120 * scale)
    if "steady" in parts:
        await steady.run(reports["steady"], server, tally, 1200 * scale)
    if "totals" in parts:
        await totals.run(reports["totals"], server, tally)
    if "leaving" in parts:
        await leaving.run(reports["leaving"], server, tally, round(500 * scale))
        if "totals" in parts:
            await totals.run(reports["totals"], server, tally)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--scale", type=float, default=1, help="factor for all durations (default: 1)")
    args = parser.parse_args()
    if unknown := {*args.parts} - {*PARTS}:
        parser.error(f"unknown part {', '.join(sorted(unknown))} (choose from {', '.join(PARTS)})")
    with tempfile.TemporaryDirectory() as folder:
        failures = asyncio.run(soak(args.parts or list(PARTS), args.scale, Path(folder)))
    print("\n".join(["failed checks:", *failures]) if failures else "all checks passed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
