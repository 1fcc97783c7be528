"""A prompt whose prefill exceeds nginx's read timeout.

Keep-alive comments must hold the stream open.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from benchmarks.soak.clients import connect, send
from benchmarks.soak.report import Report
from benchmarks.soak.requests import chat
from benchmarks.soak.slow_model import slow_model
from tests import fleet

READ_TIMEOUT = 60
"""nginx's default, in seconds."""
SAMPLE = 100


async def run(report: Report, folder: Path, seconds: float = 90) -> None:
    """Send a prompt that takes over `seconds` to prefill, judging by a short one."""
    model, rng = await asyncio.to_thread(slow_model, folder / "slow"), random.Random(5)
    with fleet.fleet(folder, "--model", str(model), proxy_read_timeout=f"{READ_TIMEOUT}s") as running:
        async with connect(running.nginx.url) as client:
            sample = await send(client, chat(SAMPLE, 1, rng))
            words = int(SAMPLE * seconds * 1.3 / sample.seconds)
            outcome = await send(client, chat(words, 4, rng))
    first = outcome.first_token or 0
    report.check(first > seconds, f"prefill of {outcome.prompt_tokens} tokens took {first:.0f} s")
    report.check(outcome.is_complete, f"with a read timeout of {READ_TIMEOUT} s the stream ended with {outcome.end}")
