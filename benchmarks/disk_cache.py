"""Measures what the prefix cache on disk saves and costs.

    python -m benchmarks.disk_cache --folder FOLDER [--model MODEL] [--part restart second intervals many]

restart: TTFT of a prompt that is computed, then read from disk after SIGTERM and SIGKILL.
second: the same, read by a second server beside the first.
intervals: ITL of 8 streams at the 99th percentile, with the cache on disk and without it, in rounds. A second server
without it shows how much of the difference is noise.
many: start, lookup, eviction and `lfm-serve cache` with 100,000 entries of another model, which take 1.2 GB of disk.

restart and second also compare the log-probabilities of the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.servers import OwnServer, own_server
from server.bench.load import Stream, percentile, prompt, user
from server.bench.wire import post
from server.cache_folder.block_names import BlockNames
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.state_block import BlockKey, Piece, StateBlock
from server.kv_events.blocks import BLOCK_TOKENS
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot

PARTS = ("restart", "second", "intervals", "many")
PROMPT, ANSWER = 2_000, 8
STREAMS, STREAM_PROMPT, STREAM_ANSWER = 8, 64, 256
GREEDY = {"temperature": 0}
ENTRIES = 100_000
GIBIBYTE, MARGIN = 1 << 30, 64 << 10
SETTLE_SECONDS = 3
"""Seconds after an answer until its blocks are written."""

EVICTION_SECONDS = 60
"""Seconds to wait for an eviction."""


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one answer.

    ttft: TTFT in seconds.
    logprobs: log-probability of each token.
    cached: number of cached prompt tokens.
    """

    ttft: float
    logprobs: list[float]
    cached: int


async def ask(server: OwnServer, text: str, tokens: int) -> Run:
    """Stream a greedy answer."""
    body = {"model": server.endpoint.model, "prompt": text, "max_tokens": tokens, "temperature": 0, "logprobs": 0}
    body |= {"ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    ttft, logprobs, cached = 0.0, [], 0
    begin = time.perf_counter()
    async with post(f"{server.endpoint.url}/completions", body, {}) as response:
        async for event in response:
            if not event["choices"]:
                cached = event["usage"]["prompt_tokens_details"]["cached_tokens"]
            elif event["choices"][0]["logprobs"]:
                ttft = ttft or time.perf_counter() - begin
                logprobs += event["choices"][0]["logprobs"]["token_logprobs"]
    if not logprobs:
        raise SystemExit(f"The server did not answer: {response.status} {response.body.decode(errors='replace')}")
    return Run(ttft, logprobs, cached)


def options(folder: Path | None) -> list[str]:
    chosen = ["--max-seqs", str(STREAMS)]
    return chosen if folder is None else [*chosen, "--cache-folder", str(folder)]


@contextlib.asynccontextmanager
async def server(model: Path | None, folder: Path | None, *more: str) -> AsyncIterator[OwnServer]:
    async with own_server(model, *options(folder), *more) as started:
        yield started


async def restart(model: Path | None, folder: Path) -> None:
    """Measure the TTFT of a prompt, computed and read from disk."""
    text = prompt(PROMPT, (0,))
    shutil.rmtree(folder, ignore_errors=True)
    async with server(model, folder) as first:
        cold = await ask(first, text, ANSWER)
        await asyncio.sleep(SETTLE_SECONDS)
        warm = await ask(first, text, ANSWER)
    async with server(model, folder) as restarted:
        report("after SIGTERM", await ask(restarted, text, ANSWER), cold)
        os.kill(restarted.pid, signal.SIGKILL)
    shutil.rmtree(folder)
    async with server(model, folder) as killed:
        again = await ask(killed, text, ANSWER)
        await asyncio.sleep(SETTLE_SECONDS)
        os.kill(killed.pid, signal.SIGKILL)
    async with server(model, folder) as after:
        report("after SIGKILL", await ask(after, text, ANSWER), again)
    report("from memory", warm, cold)


async def second(model: Path | None, folder: Path) -> None:
    """Measure the TTFT of a prompt that another running server has computed."""
    text = prompt(PROMPT, (1,))
    shutil.rmtree(folder, ignore_errors=True)
    async with server(model, folder) as first, server(model, folder) as other:
        cold = await ask(first, text, ANSWER)
        await asyncio.sleep(SETTLE_SECONDS)
        report("second server", await ask(other, text, ANSWER), cold)


def report(name: str, run: Run, cold: Run) -> None:
    difference = max(abs(a - b) for a, b in zip(run.logprobs, cold.logprobs, strict=True))
    print(
        f"{name:>14}: TTFT {run.ttft:.3f} s against {cold.ttft:.3f} s computed, 1/{cold.ttft / run.ttft:.0f}; "
        f"{run.cached} cached tokens; largest difference of logprobs {difference:.2g}",
        flush=True,
    )


async def p99(measured: OwnServer, turn: int, answer: int) -> float:
    """Return the ITL at the 99th percentile while 8 streams decode, in seconds."""
    texts = [prompt(STREAM_PROMPT, (turn, stream)) for stream in range(STREAMS)]
    streams = await measured.endpoint.run_all(Stream(user(text), answer, GREEDY.copy()) for text in texts)
    begin, end = max(stream.start for stream in streams), min(stream.end for stream in streams)
    return percentile([seconds for stream in streams for seconds in stream.intervals(begin, end)], 99)


async def intervals(model: Path | None, folder: Path, rounds: int, answer: int) -> None:
    """Compare ITLs at the 99th percentile with and without the folder, in rounds.

    All servers run the whole time. Those without the folder differ by noise only.
    """
    shutil.rmtree(folder, ignore_errors=True)
    async with server(model, None) as first, server(model, folder) as cached, server(model, None) as again:
        servers = [("without", first), ("with the folder", cached), ("without, again", again)]
        found: dict[str, list[float]] = {name: [] for name, _ in servers}
        for turn in range(rounds):
            for at in range(len(servers)):
                name, measured = servers[(turn + at) % len(servers)]
                found[name].append(await p99(measured, turn, answer))
            last = ", ".join(f"{figures[-1] * 1e3:.1f} ms {name}" for name, figures in found.items())
            print(f"p99 between tokens of {STREAMS} streams: {last}", flush=True)
    for name, figures in found.items():
        ratios = [figure / base for figure, base in zip(figures, found["without"], strict=True)]
        print(
            f"{name:>16}: median {statistics.median(figures) * 1e3:.1f} ms "
            f"({min(figures) * 1e3:.1f} to {max(figures) * 1e3:.1f}), "
            f"ratio to without {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def fill(folder: Path, entries: int) -> None:
    """Write entries of another model, and a large file that leaves no room for more."""
    shutil.rmtree(folder, ignore_errors=True)
    state = StateTensor("past.0.key", "present.0.key", StateKind.KV, (1, 32), np.dtype(np.float32))
    form, target = EntryFormat([state], b"another model", half=False), EntryFolder(folder)
    snapshot, tokens, size = Snapshot(form.states, BLOCK_TOKENS), np.arange(BLOCK_TOKENS), 0
    for index in range(entries):
        names = BlockNames(form.identity, str(index))
        names.extend(tokens)
        key = BlockKey(names.names[0], names.parent(0), BLOCK_TOKENS, tokens)
        parts = form.encode(StateBlock(key, (Piece(snapshot, 0, BLOCK_TOKENS),), {}))
        target.write(key.name, parts)
        size += sum(len(part) for part in parts)
    with target.file("f" * 32).open("wb") as file:
        file.truncate(GIBIBYTE - size - MARGIN)


def time_command(folder: Path) -> None:
    """Measure `lfm-serve cache`."""
    for use in ("ls", "stats"):
        command = [sys.executable, "-m", "server", "cache", use, "--cache-folder", str(folder)]
        begin = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        print(f"lfm-serve cache {use}: {time.perf_counter() - begin:.1f} s", flush=True)


async def evictions(server: OwnServer) -> float:
    """Wait for the first eviction, which follows a scan of the folder, and return the number of evicted blocks."""
    give_up, evicted = time.monotonic() + EVICTION_SECONDS, 0.0
    while not evicted and time.monotonic() < give_up:
        await asyncio.sleep(1)
        evicted = (await server.metrics())["lfm_disk_cache_evicted_blocks_total"]
    return evicted


async def many(model: Path | None, folder: Path) -> None:
    """Compare a server whose folder is full of entries to one without a folder."""
    text, limit = prompt(PROMPT, (2,)), ("--cache-disk", "1")
    for place in (None, folder):
        begin = time.perf_counter()
        async with server(model, place, *limit) as started:
            seconds = time.perf_counter() - begin
            found = await p99(started, 0, STREAM_ANSWER)
            cold = await ask(started, text, ANSWER)
            await asyncio.sleep(SETTLE_SECONDS)
            evicted = await evictions(started) if place else 0
        print(
            f"{'with' if place else 'without'} the folder: idle after {seconds:.1f} s, p99 between tokens "
            f"{found * 1e3:.1f} ms, {evicted:.0f} blocks evicted",
            flush=True,
        )
    async with server(model, folder, *limit) as restarted:
        report("restarted", await ask(restarted, text, ANSWER), cold)
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="cache folder, which is emptied")
    parser.add_argument("--model", type=Path, help="model folder (default: the built-in model)")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="parts to run (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of intervals (default: 5)")
    parser.add_argument(
        "--answer", type=int, default=STREAM_ANSWER, help=f"tokens of an answer of intervals (default: {STREAM_ANSWER})"
    )
    parser.add_argument("--entries", type=int, default=ENTRIES, help=f"entries of many (default: {ENTRIES:,})")
    args = parser.parse_args()
    if "restart" in args.part:
        asyncio.run(restart(args.model, args.folder))
    if "second" in args.part:
        asyncio.run(second(args.model, args.folder))
    if "intervals" in args.part:
        asyncio.run(intervals(args.model, args.folder, args.rounds, args.answer))
    if "many" in args.part:
        fill(args.folder, args.entries)
        time_command(args.folder)
        asyncio.run(many(args.model, args.folder))


if __name__ == "__main__":
    main()
