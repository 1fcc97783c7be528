"""Tenants take turns at the places where grammars are compiled."""

from __future__ import annotations

import asyncio

from server.concurrency.fair_limit import FairLimit


class Work:
    """Jobs that record their start and end when the test lets them."""

    def __init__(self, places: int, most: int) -> None:
        self.turns = FairLimit(places, per_tenant=most)
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, *names: str) -> None:
        """Queue work; the first letter of its name is its tenant."""
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._run(name))
        await settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
        await settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await settle()

    async def _run(self, name: str) -> None:
        async with self.turns.place(name[0]):
            self.begun.append(name)
            await self.ends[name].wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_tenant_that_comes_later_does_not_wait_for_all_that_another_has_queued() -> None:
    work = Work(places=1, most=1)
    await work.add("a1", "a2", "a3", "b1")
    await work.end("a1", "b1", "a2", "a3")
    assert work.begun == ["a1", "b1", "a2", "a3"] or work.begun == ["a1", "a2", "b1", "a3"]


async def test_one_tenant_never_has_all_places() -> None:
    work = Work(places=3, most=2)
    await work.add("a1", "a2", "a3", "b1")
    assert work.begun == ["a1", "a2", "b1"]
    await work.end("b1")
    assert work.begun == ["a1", "a2", "b1"]
    await work.end("a1")
    assert work.begun == ["a1", "a2", "b1", "a3"]


async def test_many_tenants_are_served_in_turn() -> None:
    work = Work(places=1, most=1)
    await work.add("x", "a1", "a2", "a3", "b1", "b2", "c1")
    for _ in range(7):
        await work.end(work.begun[-1])
    assert work.begun[1:4] == ["a1", "b1", "c1"]
    assert sorted(work.begun[4:]) == ["a2", "a3", "b2"]


async def test_work_that_is_cancelled_leaves_its_place_and_its_turn() -> None:
    work = Work(places=1, most=1)
    await work.add("a1", "a2", "b1", "c1")
    await work.cancel("a2", "b1")
    await work.cancel("a1")
    assert work.begun == ["a1", "c1"]
    await work.end("c1")
    await work.add("d1")
    assert work.begun[-1] == "d1"


async def test_work_that_is_cancelled_as_its_turn_comes_gives_the_place_on() -> None:
    work = Work(places=1, most=1)
    await work.add("a1", "b1", "c1")
    work.ends["a1"].set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await work.cancel("b1")
    await work.end("b1")
    assert "c1" in work.begun
