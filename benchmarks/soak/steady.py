"""A mixed load, long enough to show growth of memory or open files."""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.soak.clients import Outcome, Tally, connect, keep_sending, send
from benchmarks.soak.report import Health, Report, percentile
from benchmarks.soak.requests import mixed
from tests.fleet import Service

CLIENTS = 16


async def run(report: Report, server: Service, tally: Tally, seconds: float = 1200) -> None:
    rng, start = random.Random(4), time.monotonic()
    async with connect(server.url) as client:

        async def one() -> Outcome:
            outcome = await send(client, mixed(rng))
            tally.outcomes.append(outcome)
            return outcome

        clients = asyncio.create_task(keep_sending(CLIENTS, start + seconds, one))
        seen = []
        while not clients.done():
            await asyncio.wait((clients,), timeout=seconds / 40)
            seen.append(await asyncio.to_thread(Health.of, server))
            if len(seen) % 5 == 0:
                minutes = (time.monotonic() - start) / 60
                report.say(f"minute {minutes:4.1f}: {seen[-1].mebibytes:.0f} MiB, {seen[-1].open_fds:.0f} open files")
        outcomes = await clients
    await asyncio.sleep(1)
    idle = await asyncio.to_thread(Health.of, server)
    incomplete = sorted({outcome.end for outcome in outcomes if not outcome.is_complete})
    report.check(incomplete == [], f"{len(outcomes)} requests, incomplete ends: {incomplete}")
    quarter, last = seen[len(seen) // 4], seen[-1]
    growth = last.mebibytes / quarter.mebibytes - 1
    report.check(growth < 0.05, f"memory {quarter.mebibytes:.0f} MiB after a quarter, {last.mebibytes:.0f} at the end")
    report.check(
        last.open_fds <= quarter.open_fds + 2,
        f"open files: {quarter.open_fds:.0f} after a quarter, {last.open_fds:.0f} at the end",
    )
    report.say(f"a second later: {idle.mebibytes:.0f} MiB, {idle.open_fds:.0f} open files")
    first = [outcome.first_token for outcome in outcomes if outcome.first_token is not None]
    report.say(f"TTFT: p50 {percentile(first, 50):.2f} s, p99 {percentile(first, 99):.2f} s")
