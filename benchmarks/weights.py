"""Measures a prepared model's weights under a memory limit and beside file reads.

    python -m benchmarks.weights limit MODEL_FOLDER [--gigabytes 7.5]
    python -m benchmarks.weights pressure MODEL_FOLDER [--gigabytes 30] [--weights mapped]

`limit` serves four conversations of 2,000 tokens in a control group with `--gigabytes` of memory, and prints the time
and the memory used. It needs root. `pressure` decodes before and after ten idle minutes, in which another process reads
a file of `--gigabytes`. It compares the ITLs, and counts the page faults that waited for the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import anonymous_bytes, major_faults
from benchmarks.servers import OwnServer, own_server
from server.bench.load import Stream, prompt, user

CONVERSATIONS, PROMPT_TOKENS, ANSWER_TOKENS = 4, 2_000, 16
DECODED_TOKENS, ANSWERS = 64, 5
IDLE_SECONDS = 600
CONTROL_GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_limit(limit: float) -> Iterator[Path]:
    """Limit this process and its children during the block. Yields the file with the peak of their memory.

    limit: gigabytes.
    """
    first_version = (CONTROL_GROUPS / "memory").is_dir()
    group = (CONTROL_GROUPS / "memory" if first_version else CONTROL_GROUPS) / "lfm-serve-limit"
    limit_file, peak_file = (
        ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if first_version else ("memory.max", "memory.peak")
    )
    group.mkdir(exist_ok=True)
    (group / limit_file).write_text(str(int(limit * 1e9)))
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")  # cached pages stay charged to the group that read them first
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield group / peak_file
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


async def under_limit(model: Path, limit: float, weights: str) -> None:
    """Serve conversations in a control group. Both versions of control groups work."""
    with memory_limit(limit) as peak_file:
        await _serve_conversations(model, weights, peak_file)


async def _serve_conversations(model: Path, weights: str, peak_file: Path) -> None:
    started = time.perf_counter()
    async with own_server(model, "--weights", weights) as server:
        print(f"ready and idle after {time.perf_counter() - started:.1f} s, from disk")
        for turn in range(2):
            words = [prompt(PROMPT_TOKENS, i) + " go on" * turn for i in range(CONVERSATIONS)]
            streams = await server.endpoint.run_all([Stream(user(text), ANSWER_TOKENS) for text in words])
            for stream in streams:
                print(f"turn {turn + 1}: {stream.prompt_tokens} tokens, {stream.cached_tokens} from the prefix cache")
        peak = int(peak_file.read_text())
        print(f"peak of the group {peak / 1e9:.2f} GB, anonymous {anonymous_bytes(server.pid) / 1e9:.2f} GB")


async def under_pressure(model: Path, gigabytes: float, weights: str) -> None:
    """Decode before and after the server idles while another process reads a file.

    Answers on the same side differ by noise only, except the first one after the file was read.
    """
    async with own_server(model, "--weights", weights) as server:
        before = [await _interval(server) for _ in range(ANSWERS)]
        idle_until = time.monotonic() + IDLE_SECONDS
        with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
            file.truncate(int(gigabytes * 1e9))  # a sparse file fills the page cache like any other
            reader = await asyncio.create_subprocess_exec("cat", file.name, stdout=subprocess.DEVNULL)
            await reader.wait()
        await asyncio.sleep(idle_until - time.monotonic())
        faults = major_faults(server.pid)
        after = [await _interval(server)]
        faults = major_faults(server.pid) - faults
        after += [await _interval(server) for _ in range(ANSWERS - 1)]
    for side, found in (("before", before), ("after", after)):
        print(f"{weights}: mean ITL of each answer {side}: {', '.join(f'{1e3 * mean:.1f}' for mean in found)} ms")
    to_before, to_rest = after[0] / statistics.median(before), after[0] / statistics.median(after[1:])
    print(f"first answer after: {to_before:.2f} of the median before, {to_rest:.2f} of the median of the rest")
    print(f"{faults} major page faults during this answer")


async def _interval(server: OwnServer) -> float:
    """Return the mean ITL of one stream, in seconds."""
    stream = await server.endpoint.run(Stream(user("Tell me a story."), DECODED_TOKENS))
    return statistics.mean(stream.intervals())


PARTS = {"limit": (under_limit, 7.5), "pressure": (under_pressure, 30.0)}
"""Each part, and its default of --gigabytes."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("model", type=Path, help="folder of a model with a prepared copy")
    parser.add_argument("--gigabytes", type=float, help="the limit, or the size of the file (default: 7.5 or 30)")
    parser.add_argument("--weights", choices=("mapped", "shared"), default="mapped", help="as for serve")
    options = parser.parse_args()
    measure, gigabytes = PARTS[options.part]
    asyncio.run(measure(options.model, options.gigabytes or gigabytes, options.weights))


if __name__ == "__main__":
    main()
