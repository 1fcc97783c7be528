"""Measures what the prefix cache on disk saves and costs.

    python -m benchmarks.disk_cache --folder FOLDER [--model MODEL] [--part restart,second,intervals,many] [--pairs 5]

restart: TTFT of a prompt that is computed, then read from disk after SIGTERM and SIGKILL.
second: the same, read by a second server beside the first.
intervals: ITL of 8 streams at the 99th percentile, with and without the cache on disk, in alternating pairs.
many: start, lookup, eviction and `lfm-serve cache` with 100,000 entries of another model, which take 1.2 GB of disk.

restart and second also compare the log-probabilities of the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
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

import httpx
import numpy as np

from benchmarks.servers import OwnServer, own_server
from server.bench.load import prompt
from server.cache_folder.block_names import BlockNames
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.state_block import BlockKey, Piece, StateBlock
from server.kv_events.blocks import BLOCK_TOKENS
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot

PROMPT, ANSWER = 2_000, 8
STREAMS, STREAM_PROMPT, STREAM_ANSWER = 8, 256, 256
ENTRIES = 100_000
GIBIBYTE, MARGIN = 1 << 30, 64 << 10
SETTLE_SECONDS = 3
"""Seconds after an answer until its blocks are written."""


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one answer.

    ttft: TTFT in seconds.
    logprobs: log-probability of each token.
    cached: number of cached prompt tokens.
    intervals: ITLs in seconds.
    """

    ttft: float
    logprobs: list[float]
    cached: int
    intervals: list[float]


async def ask(server: OwnServer, text: str, tokens: int) -> Run:
    """Stream a greedy answer."""
    body = {"model": server.endpoint.model, "prompt": text, "max_tokens": tokens, "temperature": 0, "logprobs": 0}
    body |= {"ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    times, logprobs, cached = [], [], 0
    begin = time.perf_counter()
    url = f"{server.url}/v1/completions"
    async with httpx.AsyncClient(timeout=3600) as client, client.stream("POST", url, json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if not event["choices"]:
                cached = event["usage"]["prompt_tokens_details"]["cached_tokens"]
            elif event["choices"][0]["logprobs"]:
                times.append(time.perf_counter())
                logprobs += event["choices"][0]["logprobs"]["token_logprobs"]
    return Run(times[0] - begin, logprobs, cached, np.diff(times).tolist())


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


async def gap(model: Path | None, folder: Path | None, turn: int) -> float:
    """Return the ITL of 8 streams at the 99th percentile, in seconds."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    async with server(model, folder) as measured:
        return await p99(measured, turn)


async def p99(measured: OwnServer, turn: int) -> float:
    """Run 8 streams, and return their ITL at the 99th percentile, in seconds."""
    await ask(measured, prompt(64, (turn,)), 8)
    texts = [prompt(STREAM_PROMPT, (turn, stream)) for stream in range(STREAMS)]
    runs = await asyncio.gather(*(ask(measured, text, STREAM_ANSWER) for text in texts))
    return float(np.percentile([seconds for run in runs for seconds in run.intervals], 99))


async def intervals(model: Path | None, folder: Path, pairs: int) -> None:
    """Compare ITLs at the 99th percentile with and without the folder, in pairs."""
    ratios = []
    for pair in range(pairs):
        order = [folder, None] if pair % 2 else [None, folder]
        found = {choice: await gap(model, choice, pair) for choice in order}
        ratios.append(found[folder] / found[None])
        print(
            f"p99 between tokens of {STREAMS} streams: {found[folder] * 1e3:.1f} ms with the disk, "
            f"{found[None] * 1e3:.1f} ms without, ratio {ratios[-1]:.3f}; median {statistics.median(ratios):.3f}",
            flush=True,
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


async def many(model: Path | None, folder: Path) -> None:
    """Compare a server whose folder is full of entries to one without a folder."""
    text, limit = prompt(PROMPT, (2,)), ("--cache-disk", "1")
    for place in (None, folder):
        begin = time.perf_counter()
        async with server(model, place, *limit) as started:
            seconds = time.perf_counter() - begin
            found = await p99(started, 0)
            cold = await ask(started, text, ANSWER)
            await asyncio.sleep(SETTLE_SECONDS)
            evicted = (await started.metrics())["lfm_disk_cache_evicted_blocks_total"]
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
    parser.add_argument("--part", default="restart,second,intervals,many", help="parts to run (default: all)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of turns of intervals (default: 5)")
    parser.add_argument("--entries", type=int, default=ENTRIES, help=f"entries of many (default: {ENTRIES:,})")
    args = parser.parse_args()
    parts = args.part.split(",")
    if "restart" in parts:
        asyncio.run(restart(args.model, args.folder))
    if "second" in parts:
        asyncio.run(second(args.model, args.folder))
    if "intervals" in parts:
        asyncio.run(intervals(args.model, args.folder, args.pairs))
    if "many" in parts:
        fill(args.folder, args.entries)
        time_command(args.folder)
        asyncio.run(many(args.model, args.folder))


if __name__ == "__main__":
    main()
