"""Compares the native kernels with the hardware, and with onnxruntime's kernels.

    python -m benchmarks.kernels [--out FOLDER]     all instruction sets of this CPU on one core, with a roofline plot
    python -m benchmarks.kernels --model FOLDER     a prepared model on both kernels, in turns in one process

The first compiles benchmarks/peak.c, which measures the limits of the hardware. The second loads the weights twice.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.__main__ import describe_model
from benchmarks.raw import RawSession
from server.bench.machine import describe_machine
from server.bench.plots import draw
from server.bench.report import Cell, Chart, Report
from server.runtime.native.choice import Kernels
from server.runtime.native.library import PORTABLE, Library, MatrixFormat, load_library

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MATRICES = {"in memory": MatrixFormat(65536, 2048, 4, False), "in cache": MatrixFormat(2048, 3584, 4, False)}
"""The head of LFM2-8B-A1B, and a matrix that fits in most CPUs' last-level cache."""
ROWS = (1, 2, 3, 4, 8, 16, 64, 128, 512)
BUDGET = 0.4
"""Seconds for which a measurement is repeated. The shortest run counts."""
LEAST_REPEATS = 3
PREFILLS, BATCHES = (16, 128, 512), (1, 4, 8, 16)
PAST, STEPS = 64, 16
"""Tokens before the first decode step, and decode steps per measurement."""


def fastest(work: Callable[[], object], budget: float = BUDGET) -> float:
    """Return the shortest CPU time of `work` on this thread, in seconds."""
    times, end = list[float](), time.thread_time() + budget
    while len(times) < LEAST_REPEATS or time.thread_time() < end:
        start = time.thread_time()
        work()
        if (took := time.thread_time() - start) > 0:  # a virtual machine's clock may stand still for a moment
            times.append(took)
    return min(times)


def limits() -> tuple[float, float]:
    """Return the maximum GMAC/s and GB/s of one core."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "peak.so")
        command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", str(Path(__file__).with_name("peak.c"))]
        subprocess.run([*command, "-o", str(library)], check=True)
        functions = ctypes.CDLL(str(library))
    functions.multiply.restype, functions.multiply.argtypes = ctypes.c_int64, [ctypes.c_int64]
    functions.read_memory.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    rounds = 1_000_000
    peak = functions.multiply(rounds) / fastest(lambda: functions.multiply(rounds))
    data = np.ones(1 << 25, np.uint64)
    read = data.nbytes / fastest(lambda: functions.read_memory(data.ctypes.data, data.size), 4 * BUDGET)
    return peak / 1e9, read / 1e9


def measure_isa(library: Library, isa: str, peak: float, read: float) -> tuple[list[list[Cell]], Chart]:
    """Measure matrix products on one core, and return table rows and the roofline."""
    rng = np.random.default_rng(0)
    rows: list[list[Cell]] = []
    series: dict[str, list[tuple[float | str, float]]] = {}
    for place, form in MATRICES.items():
        packed = np.resize(rng.integers(0, 64, 1 << 20, np.uint8), library.packed_bytes(form))
        for count in ROWS:
            x = rng.standard_normal((count, form.depth)).astype(np.float32)
            seconds = fastest(lambda: library.matmul(form, packed, x, isa=isa))  # noqa: B023
            products, speed = count * form.columns * form.depth, packed.nbytes / seconds / 1e9
            compute = products / seconds / 1e9
            rows.append([f"{isa}, {place}, {count} rows", compute, compute / peak, speed, speed / read])
            series.setdefault(place, []).append((products / packed.nbytes, compute))
    intensities = sorted(float(x) for points in series.values() for x, _ in points)
    corners = sorted({intensities[0], peak / read, intensities[-1]})
    roof = [(x, min(peak, read * x)) for x in corners]
    labels = ("multiplications per byte of weights", "GMAC/s")
    return rows, Chart(isa, *labels, {**series, "limit": roof}, log=True)


def measure_kernels() -> Report:
    library = load_library()
    peak, read = limits()
    measured = [measure_isa(library, isa, peak, read) for isa in library.isas if isa != PORTABLE]
    return Report(
        "kernels",
        f"How near do the kernels come to one core's {peak:.0f} GMAC/s and {read:.1f} GB/s?",
        ("kernel", "GMAC/s", "of the peak", "GB/s of weights", "of a plain read"),
        [row for rows, _ in measured for row in rows],
        [chart for _, chart in measured],
    )


def compare(folder: Path, rounds: int) -> Report:
    """Run the same steps on both kernels in turns, and report the shortest runs.

    Other tenants of the machine only add time.
    """
    kinds = (Kernels.NATIVE, Kernels.ONNXRUNTIME)
    sessions = {kind: RawSession(folder, max(BATCHES), max(*PREFILLS, PAST + STEPS), kind) for kind in kinds}
    rows: list[list[Cell]] = []
    for name, tokens, step in _steps():
        times: dict[Kernels, list[float]] = {kernels: [] for kernels in kinds}
        for _ in range(rounds + 1):  # the first round warms up
            for kernels, session in sessions.items():
                times[kernels].append(step(session))
        native, other = (min(times[kernels][1:]) for kernels in kinds)
        rows.append([name, tokens / native, tokens / other, other / native])
        print(*rows[-1], flush=True)
    names = ("native", "onnxruntime")
    bars = {name: [(str(row[0]), float(row[i + 1] or math.nan)) for row in rows] for i, name in enumerate(names)}
    chart = Chart("native and onnxruntime's kernels", "step", "tokens/s", bars, "bars")
    question = "How much faster are the native kernels than onnxruntime's with int8 activations?"
    return Report("native", question, ("step", "native, tokens/s", "onnxruntime, tokens/s", "ratio"), rows, [chart])


def _steps() -> Iterator[tuple[str, int, Callable[[RawSession], float]]]:
    for length in PREFILLS:
        yield f"prefill {length}", length, lambda session, length=length: session.prefill(0, length)  # type: ignore[misc]
    for batch in BATCHES:
        yield (
            f"decode {batch}",
            batch * STEPS,
            lambda session, batch=batch: session.decode(batch, PAST, STEPS),  # type: ignore[misc]
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="prepared model to run on both kernels")
    parser.add_argument("--rounds", type=int, default=5, help="times each step is timed on each kernel (default: 5)")
    parser.add_argument("--out", type=Path, help="folder for results (default: docs/results/kernels or /<model>)")
    options = parser.parse_args()
    out = options.out or RESULTS / (options.model.name if options.model else "kernels")
    report = compare(options.model, options.rounds) if options.model else measure_kernels()
    model = describe_model(options.model) if options.model else "one core"
    report = replace(report, machine=describe_machine(), model=model)
    report.save(out)
    draw(report, out / f"{report.part}.svg")
    print(report.markdown())


if __name__ == "__main__":
    main()
