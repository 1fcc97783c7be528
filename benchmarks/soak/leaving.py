"""Clients that disconnect while queued, in prefill and between tokens."""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.soak.clients import Tally, connect, send
from benchmarks.soak.report import Health, Report
from benchmarks.soak.requests import chat
from tests.fleet import Service
from tests.scraping import Scrape

AT_ONCE = 24
LONGEST_STAY = 1.5


async def run(report: Report, server: Service, tally: Tally, clients: int = 500) -> None:
    rng, turns = random.Random(3), asyncio.Semaphore(AT_ONCE)
    before = await asyncio.to_thread(Health.of, server)
    async with connect(server.url) as client:

        async def leaver() -> None:
            async with turns:
                stay = rng.uniform(0, LONGEST_STAY)
                tally.outcomes.append(await send(client, chat(rng.randrange(3, 400), 400, rng), stay))

        await asyncio.gather(*(leaver() for _ in range(clients)))
        left = time.monotonic()
        scrape = await asyncio.to_thread(Scrape, server.url)
        while _busy(scrape) and time.monotonic() < left + 30:
            await asyncio.sleep(0.01)
            scrape = await asyncio.to_thread(Scrape, server.url)
    idle = time.monotonic() - left
    report.check(not _busy(scrape), f"idle {idle * 1000:.0f} ms after the last client disconnected")
    report.check(scrape("lfm_slot_tokens") == 0, f"slots hold {scrape('lfm_slot_tokens'):.0f} tokens")
    after = await asyncio.to_thread(Health.of, server)
    report.check(
        after.open_fds <= before.open_fds + 4, f"open files: {before.open_fds:.0f} before, {after.open_fds:.0f} after"
    )
    report.say(f"ends {dict(tally.ends())}")


def _busy(scrape: Scrape) -> bool:
    return scrape("lfm_requests_running") + scrape("lfm_requests_waiting") > 0
