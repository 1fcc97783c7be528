"""The servers that are compared: ours, started for the purpose with a model and options, and any other by its URL."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.load import Endpoint
from server.loading import BUILT_IN

OURS = "lfm-serve"
START_SECONDS = 300
IDLE_TICKS = 10
"""Of 10 ms in a second."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each question asks: in full, or as much as the built-in model and a minute are good for."""

    long_prompt: int
    decode_tokens: int
    memory_tokens: int
    idle_seconds: float


FULL = Sizes(long_prompt=4_000, decode_tokens=48, memory_tokens=64_000, idle_seconds=6)
QUICK = Sizes(long_prompt=2_000, decode_tokens=200, memory_tokens=24_000, idle_seconds=0.5)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run is about: our server on `model` (None: the built-in one), endpoints to compare with, how often."""

    model: Path | None
    against: tuple[str, ...]
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
        """Ours first."""
        async with own_server(self.model) as ours:
            others = [await Endpoint.connect(name_of(url), url.partition("=")[2] or url) for url in self.against]
            yield [ours.endpoint, *others]


@dataclass(frozen=True, slots=True)
class OwnServer:
    """Our server in a process of its own."""

    endpoint: Endpoint
    url: str
    pid: int

    async def metrics(self) -> dict[str, float]:
        """What it says of itself, by name and labels as they are written."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics")).raise_for_status().text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


def name_of(url: str) -> str:
    """What an endpoint's URL is called: NAME=URL names it, else its host and port do."""
    name, separator, _ = url.partition("=")
    return name if separator and "/" not in name else urlsplit(url).netloc


@contextlib.asynccontextmanager
async def own_server(model: Path | None, *options: str, name: str = OURS) -> AsyncIterator[OwnServer]:
    """Start `lfm-serve serve` on a free port, wait until it is ready, and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), *options]
    command += ["--model", str(model)] if model else []
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            if not await _is_ready(process, url):
                log.seek(0)
                raise SystemExit(f"The server did not start:\n{log.read().decode()}")
            await _until_idle(process.pid)
            yield OwnServer(await Endpoint.connect(name, f"{url}/v1"), url, process.pid)
        finally:
            process.terminate()


async def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait for it; False where it ended or takes too long."""
    give_up = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(base_url=url) as client:
        while time.monotonic() < give_up and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/ready")).status_code == 200:
                    return True
            await asyncio.sleep(0.1)
    return False


async def _until_idle(pid: int) -> None:
    """Wait until a process does nothing any more: a server opens its narrow sessions when it is ready already."""
    spent, before = _cpu_ticks(pid), -IDLE_TICKS
    while spent - before >= IDLE_TICKS:
        await asyncio.sleep(1)
        spent, before = _cpu_ticks(pid), spent


def _cpu_ticks(pid: int) -> int:
    """Ticks of 10 ms that a process has computed; 0 where that is not told (Linux does)."""
    stat = Path(f"/proc/{pid}/stat")
    return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) if stat.exists() else 0
