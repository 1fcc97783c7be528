"""Ten times the load that the server can answer."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from benchmarks.soak.clients import Outcome, Tally, connect, keep_sending, send
from benchmarks.soak.report import Health, Report, percentile
from benchmarks.soak.requests import chat
from tests.fleet import Service

TOKENS = 384
"""Tokens per answer, enough for these clients to send ten times the capacity."""


async def run(report: Report, server: Service, tally: Tally, slots: int, waiting: int, seconds: float = 120) -> None:
    """Flood a server with requests.

    slots: the server's --max-seqs.
    waiting: the server's --max-waiting.
    """
    rng = random.Random(1)
    async with connect(server.url) as client:

        async def one() -> Outcome:
            outcome = await send(client, chat(20, TOKENS, rng))
            tally.outcomes.append(outcome)
            return outcome

        alone = [await one() for _ in range(5)]
        start = time.monotonic()
        full = await keep_sending(slots + waiting // 2, start + seconds / 4, one)
        capacity = len(full) / (time.monotonic() - start)
        report.say(f"capacity {capacity:.1f} requests/s; sending {10 * capacity:.0f} requests/s for {seconds:.0f} s")
        outcomes, memory = await _flood(server, one, 10 * capacity, seconds)
        await asyncio.sleep(1)
        after = await one()
    _judge(report, outcomes, bound=2 * (waiting + slots) / capacity)
    report.check(
        memory[1] <= memory[0] * 1.05, f"memory {memory[0]:.0f} MiB after a quarter, {memory[1]:.0f} at the end"
    )
    before = [outcome.first_token or 0 for outcome in alone]
    limit = max(2 * statistics.median(before), max(before))
    took = after.first_token or float("inf")
    report.check(took <= limit, f"TTFT of the first request afterwards {took:.3f} s; before at most {max(before):.3f}")


async def _flood(
    server: Service, one: Callable[[], Coroutine[Any, Any, Outcome]], rate: float, seconds: float
) -> tuple[list[Outcome], tuple[float, float]]:
    """Send requests at random times, without waiting for answers.

    Returns the outcomes, and the memory after a quarter of the time and at the end.
    """
    rng, start, sent = random.Random(2), time.monotonic(), []
    quarter, due = None, start
    while (now := time.monotonic()) < start + seconds:
        if quarter is None and now > start + seconds / 4:
            quarter = (await asyncio.to_thread(Health.of, server)).mebibytes
        if due > now:
            await asyncio.sleep(due - now)
        sent.append(asyncio.create_task(one()))
        due += rng.expovariate(rate)
    end = (await asyncio.to_thread(Health.of, server)).mebibytes
    return list(await asyncio.gather(*sent)), (quarter or end, end)


def _judge(report: Report, outcomes: Sequence[Outcome], bound: float) -> None:
    answered = [outcome for outcome in outcomes if outcome.is_complete]
    refused = [outcome for outcome in outcomes if outcome.status == 429]
    other = sorted({outcome.end for outcome in outcomes if not outcome.is_complete and outcome.status != 429})
    report.check(
        other == [], f"{len(outcomes)} sent: {len(answered)} answered, {len(refused)} refused, other ends: {other}"
    )
    first = [outcome.first_token or 0 for outcome in answered]
    slowest = percentile(first, 99)
    report.check(
        slowest <= bound,
        f"TTFT of answered requests: p50 {percentile(first, 50):.2f} s, p99 {slowest:.2f} s (limit {bound:.2f})",
    )
    refusals = [outcome.seconds * 1000 for outcome in refused]
    report.check(
        percentile(refusals, 50) < 50,
        f"429 after {percentile(refusals, 50):.1f} ms (p50), {percentile(refusals, 99):.1f} ms (p99)",
    )
