"""Measures how much memory a token takes, and whether all of it is returned.

Streams with one long, cached prompt fill the slots. The bytes per token are the slope of the server's anonymous memory,
without the cache, as the slots fill. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.processes import anonymous_bytes
from benchmarks.servers import Bench, OwnServer, own_server
from server.bench.load import Stream, prompt, user
from server.bench.report import Cell, Chart, Report
from server.runtime.model_folder import open_model_folder

PART = "memory"
QUESTION = "Memory by tokens held"
STREAMS = 16
TOKENS = 100
SAMPLE_SECONDS = 0.2
MAX_POINTS = 30
FLOAT_BYTES = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2}
COLUMNS = ("", "measured", "expected", "measured to expected")


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's anonymous memory, and token and byte counts from its /metrics."""

    anonymous: int
    slot_tokens: int
    cache_tokens: int
    cache_bytes: int
    window_bytes: int

    @property
    def without_cache(self) -> int:
        return self.anonymous - self.cache_bytes


async def measure(bench: Bench) -> Report:
    """Measure once: a slope is less noisy than times."""
    length = bench.sizes.memory // STREAMS
    async with own_server(bench.model, "--max-seqs", str(STREAMS)) as server:
        await _fill(server, length, "warm")  # sessions keep the working memory of every kind of step
        before = await _sample(server)
        async with _sampled(server) as samples:
            await _fill(server, length, "load")
        after = await _sample(server)
    return _report([before, *samples], before, after, kv_bytes_per_token(bench.folder))


def kv_bytes_per_token(path: Path) -> int:
    """Return the bytes of one token's keys and values in all attention layers."""
    folder = open_model_folder(path)
    total = 0
    for state in onnx.load(folder.graph, load_external_data=False).graph.input:
        tensor = state.type.tensor_type
        sizes = [size.dim_value for size in tensor.shape.dim]
        if len(sizes) == 4:
            total += sizes[1] * (sizes[3] or folder.head_dim or 0) * FLOAT_BYTES[tensor.elem_type]
    return total


async def _fill(server: OwnServer, length: int, seed: str) -> None:
    """Run one stream with a new prompt, then fill all slots with it."""
    messages = user(prompt(length, seed))
    await server.endpoint.run(Stream(messages, 1))
    await server.endpoint.run_all([Stream(messages, TOKENS) for _ in range(STREAMS)])


@contextlib.asynccontextmanager
async def _sampled(server: OwnServer) -> AsyncIterator[list[Sample]]:
    samples: list[Sample] = []

    async def keep_sampling() -> None:
        while True:
            samples.append(await _sample(server))
            await asyncio.sleep(SAMPLE_SECONDS)

    task = asyncio.create_task(keep_sampling())
    yield samples
    task.cancel()


async def _sample(server: OwnServer) -> Sample:
    values = await server.metrics()
    cache = [f"lfm_prefix_cache_{name}" for name in ("tokens", "bytes", "window_bytes")]
    return Sample(anonymous_bytes(server.pid), *(int(values[name]) for name in ("lfm_slot_tokens", *cache)))


def _report(samples: list[Sample], before: Sample, after: Sample, expected: int) -> Report:
    peak = max(range(len(samples)), key=lambda i: samples[i].slot_tokens)
    growing, ending = samples[: peak + 1], samples[peak:]
    held = [sample.slot_tokens for sample in growing]
    slope = float(np.polyfit(held, [sample.without_cache for sample in growing], 1)[0])
    rows: list[list[Cell]] = [["slots, bytes per token", slope, float(expected), slope / expected]]
    if cached := after.cache_tokens:
        cost = (after.cache_bytes - after.window_bytes) / cached
        rows.append(["prefix cache, bytes per token", cost, float(expected), cost / expected])
        rows.append(["its checkpoints, bytes per token", after.window_bytes / cached, "", ""])
    megabytes = [sample.without_cache / 1e6 for sample in (after, before)]
    rows.append(
        ["anonymous memory without the cache, MB, after the load and before", *megabytes, megabytes[0] / megabytes[1]]
    )
    lines = {
        "while filling": _points(growing, before),
        "while emptying": _points(ending, before),
        f"{expected:,} bytes per token": [(0.0, 0.0), (float(held[-1]), held[-1] * expected / 1e6)],
    }
    return Report(PART, QUESTION, COLUMNS, rows, [Chart("Memory of the slots", "tokens held", "MB", lines)])


def _points(samples: list[Sample], before: Sample) -> list[tuple[float, float]]:
    """Return some samples as (tokens, megabytes above `before`)."""
    some = samples[:: len(samples) // MAX_POINTS + 1]
    return [(float(sample.slot_tokens), (sample.without_cache - before.without_cache) / 1e6) for sample in some]
