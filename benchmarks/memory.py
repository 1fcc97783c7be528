"""What does a token held cost in memory, and is all of it given back?

Streams with one long prompt, which the prefix cache has, fill the slots within seconds while the server's anonymous
memory is read from the kernel, and what it says it holds from /metrics. Counted apart: the slots' bytes a token (the
slope of anonymous memory less the cache's bytes while they fill), and the cache's, as reported, with its checkpoints of
convolution state apart. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.load import Stream, prompt, user
from benchmarks.machine import anonymous_bytes
from benchmarks.report import Cell, Chart, Report
from benchmarks.servers import Bench, OwnServer, own_server
from server.runtime.model_folder import open_model_folder

PART = "memory"
QUESTION = "Memory against tokens held"
STREAMS = 16
TOKENS = 100
SAMPLE_SECONDS = 0.2
MOST_POINTS = 30
FLOAT_BYTES = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2}
COLUMNS = ("", "measured", "expected", "measured to expected")


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment's anonymous memory of the process in bytes, and what the server says it holds."""

    anonymous: int
    slot_tokens: int
    cache_tokens: int
    cache_bytes: int
    window_bytes: int

    @property
    def besides_cache(self) -> int:
        return self.anonymous - self.cache_bytes


async def measure(bench: Bench) -> Report:
    """Once: what is looked at is a slope, not a time."""
    length = bench.sizes.memory_tokens // STREAMS
    async with own_server(bench.model, "--max-seqs", str(STREAMS)) as server:
        await _fill(server, length, "warm")  # the working memory of all kinds of steps, which the sessions keep
        before = await _sample(server)
        async with _sampled(server) as samples:
            await _fill(server, length, "load")
        after = await _sample(server)
    return _report([before, *samples], before, after, kv_bytes_per_token(bench.folder))


def kv_bytes_per_token(path: Path) -> int:
    """What the graph's attention layers keep for a token."""
    folder = open_model_folder(path)
    total = 0
    for state in onnx.load(folder.graph, load_external_data=False).graph.input:
        tensor = state.type.tensor_type
        sizes = [size.dim_value for size in tensor.shape.dim]
        if len(sizes) == 4:
            total += sizes[1] * (sizes[3] or folder.head_dim or 0) * FLOAT_BYTES[tensor.elem_type]
    return total


async def _fill(server: OwnServer, length: int, seed: str) -> None:
    """One stream alone, whose prompt is new, then all slots with the same prompt."""
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
    slope = float(np.polyfit(held, [sample.besides_cache for sample in growing], 1)[0])
    rows: list[list[Cell]] = [["slots, bytes a token", slope, float(expected), slope / expected]]
    if cached := after.cache_tokens:
        cost = (after.cache_bytes - after.window_bytes) / cached
        rows.append(["prefix cache, bytes a token", cost, float(expected), cost / expected])
        rows.append(["its checkpoints, bytes a token", after.window_bytes / cached, "", ""])
    megabytes = [sample.besides_cache / 1e6 for sample in (after, before)]
    rows.append(
        ["anonymous memory less the cache after the load, MB, and before", *megabytes, megabytes[0] / megabytes[1]]
    )
    lines = {
        "while they grow": _points(growing, before),
        "while they end": _points(ending, before),
        f"{expected:,} bytes a token": [(0.0, 0.0), (float(held[-1]), held[-1] * expected / 1e6)],
    }
    return Report(PART, QUESTION, COLUMNS, rows, [Chart("Memory that the slots take", "tokens held", "MB", lines)])


def _points(samples: list[Sample], before: Sample) -> list[tuple[float, float]]:
    """Tokens and megabytes more than before."""
    some = samples[:: len(samples) // MOST_POINTS + 1]
    return [(float(sample.slot_tokens), (sample.besides_cache - before.besides_cache) / 1e6) for sample in some]
