"""Hostile schemas and grammars beside innocent streams, which must stay fast."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import httpx

from benchmarks.hostile_forms import hostile_form
from benchmarks.soak.clients import CHAT, Outcome, Tally, connect, keep_sending, send
from benchmarks.soak.report import Health, Report, percentile
from tests.fleet import Service

INNOCENT = 8
ATTACKERS = 4
STREAM = {
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 200,
    "ignore_eos": True,
    "temperature": 1,
    "skip_special_tokens": False,  # so that every token has text, and an event of its own
    "stream": True,
}
MOST_ADDED = 0.1  # seconds between two tokens of others, at the 99th percentile
MOST_GROWTH = 50  # MiB from the first run's end to the second's


async def run(report: Report, server: Service, tally: Tally, seconds: float = 1200) -> None:
    rng = random.Random(5)
    forms = [hostile_form(rng) for _ in range(max(50, round(seconds)))]  # takes long: not while gaps are measured
    quiet = await _gaps(server, time.monotonic() + min(30, seconds / 4))
    sizes = []
    for seed in range(2):
        end = time.monotonic() + seconds / 2
        attack = asyncio.create_task(_attack(server, end, random.Random(seed), forms))
        gaps = await _gaps(server, end)
        outcomes = await attack
        tally.outcomes += outcomes
        added = percentile(gaps, 99) - percentile(quiet, 99)
        report.check(added <= MOST_ADDED, f"99% of the gaps between others' tokens: {added * 1000:+.0f} ms")
        report.say(f"longest gap {max(gaps):.2f} s, quiet {max(quiet):.2f} s")
        faults = [outcome for outcome in outcomes if outcome.status >= 500 or outcome.end in ("hung", "unanswered")]
        slowest = max(outcome.seconds for outcome in outcomes)
        report.check(not faults, f"{len(outcomes)} hostile requests, {len(faults)} faults, the slowest {slowest:.1f} s")
        await asyncio.sleep(2)
        sizes.append((await asyncio.to_thread(Health.of, server)).mebibytes)
    report.check(sizes[1] - sizes[0] < MOST_GROWTH, f"{sizes[0]:.0f} MiB after one run, {sizes[1]:.0f} after two")


async def _attack(server: Service, end: float, rng: random.Random, forms: list[dict[str, Any]]) -> list[Outcome]:
    async with connect(server.url) as client:

        async def one() -> Outcome:
            body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 20, **rng.choice(forms)}
            return await send(client, body, leave_after=rng.choice((None, None, 0.5)))

        return await keep_sending(ATTACKERS, end, one)


async def _gaps(server: Service, end: float) -> list[float]:
    """Keep the innocent streams going, and return the seconds between their tokens."""
    gaps: list[float] = []
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def stream() -> None:
            while time.monotonic() < end:
                last = None
                async with client.stream("POST", CHAT, json=STREAM) as answer:
                    answer.raise_for_status()
                    async for line in answer.aiter_lines():
                        if line.startswith("data: {") and json.loads(line[6:])["choices"]:
                            now = time.perf_counter()
                            gaps.extend([] if last is None else [now - last])
                            last = now

        await asyncio.gather(*(stream() for _ in range(INNOCENT)))
    return gaps
