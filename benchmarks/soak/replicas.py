"""Two replicas behind nginx, with 32 clients: one replica is killed, one stopped."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

from benchmarks.soak.clients import Outcome, connect, keep_sending, send
from benchmarks.soak.report import Report, percentile
from benchmarks.soak.requests import chat
from tests import fleet
from tests.fleet import Fleet, Service
from tests.scraping import Scrape

CLIENTS = 32


async def run(report: Report, folder: Path, seconds: float = 180) -> None:
    """Kill one replica after a third of the time and stop the other after two thirds.

    Each is restarted immediately.
    """
    with fleet.fleet(folder, "--threads", "1", "--max-seqs", "16") as running:
        start, killed, rng = time.monotonic(), running.replicas[0], random.Random(0)
        async with connect(running.nginx.url) as client:

            async def one() -> Outcome:
                return await send(client, chat(rng.randrange(3, 60), rng.randrange(10, 120), rng))

            clients = asyncio.create_task(keep_sending(CLIENTS, start + seconds, one))
            await asyncio.sleep(seconds / 3)
            report.say(f"SIGKILL to a replica with {_open_requests(killed):.0f} requests")
            await asyncio.to_thread(killed.kill)
            back = await _bring_back(running, killed)
            report.check(back > 0, f"{back} requests within 10 s of its being ready again")
            await asyncio.sleep(max(0, start + seconds * 2 / 3 - time.monotonic()))
            report.say("SIGTERM to the other replica")
            code = await asyncio.to_thread(running.replicas[1].terminate)
            report.check(code == 0, f"its exit code was {code}")
            back = await _bring_back(running, running.replicas[1])
            report.check(back > 0, f"{back} requests within 10 s of its being ready again")
            outcomes = await clients
    _judge(report, outcomes)


def _judge(report: Report, outcomes: list[Outcome]) -> None:
    complete = [outcome for outcome in outcomes if outcome.is_complete]
    broken = [outcome for outcome in outcomes if outcome.end == "broken"]
    other = [outcome.end for outcome in outcomes if not outcome.is_complete and outcome.end != "broken"]
    report.say(f"{len(outcomes)} requests, {len(complete)} complete")
    report.check(other == [], f"{len(other)} failed before their first byte or hung: {sorted({*other})}")
    report.check(len(broken) <= CLIENTS, f"{len(broken)} streams were broken by the kill")
    first = [outcome.first_token for outcome in complete if outcome.first_token is not None]
    report.say(f"TTFT: p50 {percentile(first, 50):.2f} s, p99 {percentile(first, 99):.2f} s")
    report.say(f"longest request: {max(outcome.seconds for outcome in outcomes):.1f} s")


def _open_requests(replica: Service) -> float:
    scrape = Scrape(replica.url)
    return scrape("lfm_requests_running") + scrape("lfm_requests_waiting")


async def _bring_back(running: Fleet, replica: Service) -> int:
    """Restart the replica, and return how many requests it answers in ten seconds."""
    replica.start()
    await asyncio.to_thread(replica.wait_until_ready)
    log = running.nginx.log.with_name("access.log")
    before = len(log.read_text().splitlines())
    await asyncio.sleep(10)
    lines = map(json.loads, log.read_text().splitlines()[before:])
    return sum(line["replicas"] == replica.address and line["status"] == 200 for line in lines)
