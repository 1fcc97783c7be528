"""Stores of responses: the memory stays within its bound, and a file gives back ten thousand."""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

from server.api.responses.store.memory import MemoryStore
from server.api.responses.store.sqlite import SqliteStore
from server.api.responses.store.stored import StoredResponse
from server.chat.constrained.worker.compilation import anonymous_bytes

COUNT = 10_000
TTL = 3600.0


def response(number: int) -> StoredResponse:
    """Return a response of the key `ann` or `bob`, with contents that share no memory with others."""
    owner = ("ann", "bob")[number % 2]
    return StoredResponse(
        id=f"resp_{number}",
        owner=owner,
        created=time.time(),
        running=False,
        response=os.urandom(2000),
        input_items=os.urandom(500),
        events=os.urandom(1000) if number % 3 == 0 else None,
    )


async def test_the_memory_for_ten_thousand_responses_stays_within_its_bound() -> None:
    store = MemoryStore(8 << 20, TTL)
    tracemalloc.start()
    try:
        for number in range(COUNT):
            await store.put(response(number))
        gc.collect()
        used, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used <= store.size <= 8 << 20
    assert peak < 9 << 20
    kept = [number for number in range(COUNT) if await store.get(f"resp_{number}", "ann")]
    assert kept == list(range(kept[0], COUNT, 2)), "the newest responses are kept"
    assert len(kept) > 500


async def test_a_response_above_the_bound_drops_no_other() -> None:
    store = MemoryStore(64 << 10, TTL)
    await store.put(response(0))
    await store.put(replace(response(2), response=os.urandom(100_000)))
    assert await store.get("resp_0", "ann") is not None
    assert await store.get("resp_2", "ann") is None
    await store.put(replace(response(0), response=os.urandom(100_000)))
    assert await store.get("resp_0", "ann") is None, "an earlier version is outdated"
    assert store.size == 0


async def test_a_file_keeps_ten_thousand_responses_without_keeping_them_in_memory(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "responses.db", TTL)
    before, sent = anonymous_bytes(), {}
    for number in range(COUNT):
        one = response(number)
        await store.put(one)
        if number % 1000 == 0:
            sent[number] = one
    assert anonymous_bytes() - before < 16 << 20, "the contents take 28 MB"
    await store.close()
    again = SqliteStore(tmp_path / "responses.db", TTL)
    for number, one in sent.items():
        assert await again.get(f"resp_{number}", "ann") == one
        assert await again.get(f"resp_{number}", "bob") is None
    assert await again.get(f"resp_{COUNT - 1}", "bob")
    await again.close()
