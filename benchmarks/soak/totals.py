"""Compares the server's totals at /metrics with the clients' counts."""

from __future__ import annotations

import asyncio
from collections import Counter

from benchmarks.soak.clients import Tally
from benchmarks.soak.report import Report
from tests.fleet import Service
from tests.scraping import Scrape


async def run(report: Report, server: Service, tally: Tally) -> None:
    """Check that totals are equal, except for clients that disconnected.

    These may miss tokens that the server sent.
    """
    await asyncio.sleep(1)  # the server counts a request just after its client has read the last byte
    scrape = await asyncio.to_thread(Scrape, server.url)
    counted, ends = _by_finish_reason(scrape), tally.ends()
    left = ends.pop("left", 0)
    total = sum(counted.values())
    report.check(total == len(tally.outcomes) or left > 0, f"requests: {total} counted, {len(tally.outcomes)} sent")
    errors = sum(outcome.status >= 400 for outcome in tally.outcomes)
    report.check(counted["error"] == errors, f"errors: {counted['error']} counted, {errors} received")
    for reason in ("stop", "length", "tool_calls"):
        most = ends[reason] + left
        report.check(
            ends[reason] <= counted[reason] <= most, f"{reason}: {counted[reason]} counted, {ends[reason]} received"
        )
    report.check(counted["cancelled"] <= left, f"cancelled: {counted['cancelled']} counted, {left} disconnected")
    for name, seen in zip(("prompt", "generation"), tally.tokens(), strict=True):
        tokens = int(scrape(f"lfm_{name}_tokens_total"))
        report.check(
            tokens == seen or (left > 0 and tokens > seen), f"{name} tokens: {tokens} counted, {seen} received"
        )


def _by_finish_reason(scrape: Scrape) -> Counter[str]:
    counted: Counter[str] = Counter()
    for (name, labels), value in scrape.samples.items():
        if name == "lfm_requests_total" and dict(labels)["route"] == "/v1/chat/completions":
            counted[dict(labels)["finish_reason"]] += int(value)
    return counted
