"""The servers under comparison: our own, and other endpoints by URL."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.processes import cpu_seconds, free_port
from server.bench import pace
from server.bench.load import Endpoint
from server.client.urls import NamedUrl
from server.loading.model_choice import BUILT_IN

OURS = "lfm-serve"
START_SECONDS = 300
IDLE_SHARE = 0.1
"""Share of one core below which a process counts as idle."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work each part does, in tokens."""

    pace: pace.Sizes
    decode: int
    memory: int


FULL = Sizes(pace.Sizes(long_prompt=4_000, idle_seconds=6), decode=48, memory=64_000)
QUICK = Sizes(pace.Sizes(long_prompt=2_000, idle_seconds=0.5), decode=200, memory=24_000)
"""Sizes for the built-in model: all parts together take about a minute."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Options of a run.

    model: model folder, or None for the built-in model.
    """

    model: Path | None
    against: tuple[NamedUrl, ...]
    rounds: int
    raw: bool

    @property
    def folder(self) -> Path:
        return self.model or BUILT_IN

    @property
    def sizes(self) -> Sizes:
        return QUICK if self.model is None else FULL

    @contextlib.asynccontextmanager
    async def endpoints(self) -> AsyncIterator[list[Endpoint]]:
        """Start our server for a `with` block, and connect to all endpoints, ours first."""
        async with own_server(self.model) as ours:
            others = [await Endpoint.connect(other) for other in self.against]
            yield [ours.endpoint, *others]


@dataclass(frozen=True, slots=True)
class OwnServer:
    """Our server in its own process."""

    endpoint: Endpoint
    url: str
    pid: int

    async def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics, by name and labels as in the response."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics")).raise_for_status().text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


@contextlib.asynccontextmanager
async def own_server(model: Path | None, *options: str, name: str = OURS) -> AsyncIterator[OwnServer]:
    """Run `lfm-serve serve` during a `with` block.

    The block starts when the server is idle.
    """
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), *options]
    command += ["--model", str(model)] if model else []
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            if not await _is_ready(process, url):
                log.seek(0)
                raise SystemExit(f"The server did not start:\n{log.read().decode()}")
            await _until_idle(process.pid)
            yield OwnServer(await Endpoint.connect(NamedUrl(name, f"{url}/v1")), url, process.pid)
        finally:
            process.terminate()


async def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Return True once the server is ready, or False if it ends or takes too long."""
    give_up = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(base_url=url) as client:
        while time.monotonic() < give_up and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/ready")).status_code == 200:
                    return True
            await asyncio.sleep(0.1)
    return False


async def _until_idle(pid: int) -> None:
    """Wait until the process is idle: a ready server may still be opening sessions."""
    spent, before = cpu_seconds(pid), -IDLE_SHARE
    while spent - before >= IDLE_SHARE:
        await asyncio.sleep(1)
        spent, before = cpu_seconds(pid), spent
