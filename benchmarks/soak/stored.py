"""Thousands of stored responses, in bounded memory and in a file.

The file keeps all of them if the server is killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from benchmarks.processes import anonymous_bytes
from benchmarks.soak.clients import connect
from benchmarks.soak.report import Report
from benchmarks.soak.server import running
from tests.fleet import Service

ROUTE = "/v1/responses"
CLIENTS = 8
WARM_UP = 200
"""Number of responses after which the server has all its working memory."""
LIMIT = 8
"""MiB of --responses-memory; 10,000 responses take about 60."""
SLACK = 24
"""MiB by which the server may grow beyond its limit."""
KEYS = "[owner]\nkey = 'a'\n\n[other]\nkey = 'b'\n"
OWNER, OTHER = ({"Authorization": f"Bearer {key}"} for key in "ab")
BODY = {"input": "Hello!", "max_output_tokens": 1, "user": "u" * 4096}  # the response repeats `user`
T, R = TypeVar("T"), TypeVar("R")


async def run(report: Report, folder: Path, count: int) -> None:
    """Store `count` responses in memory and, with another server, in a file."""
    keys = folder / "keys.toml"
    keys.write_text(KEYS)
    options = ("--api-keys-file", str(keys), "--threads", "1", "--max-seqs", str(CLIENTS), "--cache-memory", "16")
    in_memory = _in_memory(report, folder, count, *options)
    await asyncio.gather(in_memory, _in_file(report, folder, count, *options))


async def _in_memory(report: Report, folder: Path, count: int, *options: str) -> None:
    """Check that memory is bounded, and that the newest responses fill it."""
    async with running(folder / "memory", *options, "--responses-memory", str(LIMIT)) as server:
        ids = await _fill(report, "memory", server, count, LIMIT)
        async with connect(server.url) as client:
            answers = await _each(lambda id: _get(client, id), ids)
    kept = [answer for answer in answers if answer.status_code == 200]
    size = sum(len(answer.content) for answer in kept) / 2**20
    oldest_kept = next((i for i, answer in enumerate(answers) if answer.status_code == 200), len(ids))
    newest = len(ids) - oldest_kept - len(kept) <= CLIENTS  # clients finish in another order than the server
    report.check(newest, f"memory: the newest {len(kept)} of {len(ids)} responses are kept")
    full = LIMIT / 2 < size <= LIMIT or len(kept) == len(ids)
    report.check(full, f"memory: they have {size:.1f} MiB of {LIMIT}")


async def _in_file(report: Report, folder: Path, count: int, *options: str) -> None:
    """Check that a file keeps all responses after a kill, for their key only."""
    file = folder / "responses.db"
    async with running(folder / "file", *options, "--responses-file", str(file)) as server:
        ids = await _fill(report, "file", server, count, 0)
        report.say(f"file: it has {file.stat().st_size / 2**20:.0f} MiB")
        await asyncio.to_thread(server.kill)
        server.start()
        await asyncio.to_thread(server.wait_until_ready)
        async with connect(server.url) as client:
            answers = await _each(lambda id: _get(client, id), ids)
            others = {answer.status_code for answer in await _each(lambda id: _get(client, id, OTHER), ids[::20])}
            body = BODY | {"previous_response_id": ids[0]}
            answer = await client.post(ROUTE, json=body, headers=OWNER)
    kept = sum(answer.status_code == 200 for answer in answers)
    report.check(kept == len(ids), f"file: after SIGKILL {kept} of {len(ids)} responses are there")
    report.check(others == {404}, f"file: another key gets {others}")
    report.check(answer.status_code == 200, f"file: the oldest one is continued: {answer.status_code}")


async def _fill(report: Report, store: str, server: Service, count: int, limit: int) -> list[str]:
    """Store responses, and check the growth of the server's memory.

    Returns the responses' IDs, oldest first.

    limit: MiB by which the stored responses may let the server grow.
    """
    async with connect(server.url) as client:

        async def create(_: int) -> str:
            answer = (await client.post(ROUTE, json=BODY, headers=OWNER)).raise_for_status()
            response_id: str = answer.json()["id"]
            return response_id

        await _each(create, range(WARM_UP))
        before, start = anonymous_bytes(server.process.pid) / 2**20, time.monotonic()
        ids = await _each(create, range(count))
    after, seconds = anonymous_bytes(server.process.pid) / 2**20, time.monotonic() - start
    report.say(f"{store}: {count} responses in {seconds:.0f} s")
    growth = f"{before:.0f} MiB before, {after:.0f} MiB after"
    report.check(after - before < limit + SLACK, f"{store}: anonymous memory: {growth}")
    return ids


async def _get(client: httpx.AsyncClient, response_id: str, headers: dict[str, Any] = OWNER) -> httpx.Response:
    return await client.get(f"{ROUTE}/{response_id}", headers=headers)


async def _each(work: Callable[[T], Awaitable[R]], arguments: Iterable[T]) -> list[R]:
    """Return the results of `work` for all arguments, in order.

    At most CLIENTS calls run at a time.
    """
    places = asyncio.Semaphore(CLIENTS)

    async def one(argument: T) -> R:
        async with places:
            return await work(argument)

    return await asyncio.gather(*map(one, arguments))
