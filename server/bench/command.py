"""Runs `lfm-serve bench`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from server.bench.load import Endpoint
from server.bench.machine import describe_machine
from server.bench.parts import PARTS, Work, measure, publish
from server.bench.report import Report
from server.client.urls import NamedUrl


def run(
    servers: Sequence[NamedUrl],
    key: str | None,
    model: str | None,
    parts: Sequence[str],
    work: Work,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Run the benchmarks `parts`, and publish each report when it is ready.

    model: model to request; None for the first model that each server lists.
    say: called with each line of progress.

    Raises RefusedError if a server cannot be reached or rejects the requests.
    """
    for part in parts:
        say(f"Measuring {part} ...")
        publish(asyncio.run(_measure(part, servers, key, model, work)), out, PARTS, say)
    say(f"Results: {out}")


async def _measure(part: str, servers: Sequence[NamedUrl], key: str | None, model: str | None, work: Work) -> Report:
    endpoints = [await Endpoint.connect(server, key, model) for server in servers]
    report = await measure(part, endpoints, work)
    models = ", ".join(f"{endpoint.model} on {endpoint.name}" for endpoint in endpoints)
    return replace(report, machine=f"measured from {describe_machine()}", model=models)
