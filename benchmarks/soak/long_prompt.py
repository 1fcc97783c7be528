"""A prompt that takes longer to read than nginx waits for a byte by default: the pings keep the stream."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from benchmarks.soak.clients import ask, connect
from benchmarks.soak.report import Report
from benchmarks.soak.requests import chat
from benchmarks.soak.slow_model import slow_model
from tests import fleet

READ_TIMEOUT = 60
"""nginx's default."""
SAMPLE = 100


async def run(report: Report, folder: Path, seconds: float = 90) -> None:
    """The prompt's length comes from how fast this machine reads a short one."""
    model, rng = await asyncio.to_thread(slow_model, folder / "slow"), random.Random(5)
    with fleet.fleet(folder, "--model", str(model), proxy_read_timeout=f"{READ_TIMEOUT}s") as running:
        async with connect(running.nginx.url) as client:
            sample = await ask(client, chat(SAMPLE, 1, rng))
            words = int(SAMPLE * seconds * 1.3 / sample.seconds)
            outcome = await ask(client, chat(words, 4, rng))
    first = outcome.first_token or 0
    report.check(first > seconds, f"{outcome.prompt_tokens} tokens were read for {first:.0f} s")
    report.check(outcome.is_complete, f"behind a read timeout of {READ_TIMEOUT} s the stream ended with {outcome.end}")
