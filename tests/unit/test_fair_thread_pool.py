"""Tenants take turns in the pool, whatever the number of their jobs."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from server.concurrency.fair_thread_pool import FairThreadPool


class Gate:
    """A pool of one thread that is busy until `open`; `started` lists the jobs in the order they ran."""

    def __init__(self) -> None:
        self.pool = FairThreadPool(1, "test")
        self.started: list[str] = []
        self._open = threading.Event()
        self._busy = asyncio.ensure_future(self.pool.run("first", self._open.wait))

    def submit(self, tenant: str, name: str) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.pool.run(tenant, lambda: self.started.append(name)))

    async def open(self) -> None:
        self._open.set()
        await self._busy


async def test_a_tenant_with_many_jobs_delays_another_by_one() -> None:
    gate = Gate()
    jobs = [gate.submit("many", f"many {i}") for i in range(5)] + [gate.submit("few", "few")]
    await asyncio.sleep(0)
    await gate.open()
    await asyncio.gather(*jobs)
    assert gate.started == ["many 0", "few", "many 1", "many 2", "many 3", "many 4"]


async def test_a_job_whose_caller_left_never_starts() -> None:
    gate = Gate()
    leaver, other = gate.submit("a", "leaver"), gate.submit("a", "other")
    await asyncio.sleep(0)
    leaver.cancel()
    await gate.open()
    await other
    assert gate.started == ["other"]


async def test_a_caller_that_leaves_a_running_job_frees_nothing_early() -> None:
    gate = Gate()
    await asyncio.sleep(0.01)
    gate._busy.cancel()
    job = gate.submit("a", "job")
    await asyncio.sleep(0.01)
    assert gate.started == []
    gate._open.set()
    await job
    assert gate.started == ["job"]


async def test_an_error_reaches_its_caller_and_the_pool_goes_on() -> None:
    pool = FairThreadPool(1, "test")
    with pytest.raises(ZeroDivisionError):
        await pool.run("a", lambda: 1 // 0)
    assert await pool.run("a", lambda: 7) == 7


async def test_work_runs_in_its_callers_context() -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("caller")
    assert await FairThreadPool(1, "test").run("a", name.get) == "caller"
