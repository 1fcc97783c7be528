"""The state and the resident memory of slots after moves, swaps and releases."""

from __future__ import annotations

import ctypes
import mmap
import platform

import numpy as np
import pytest

from server.runtime.contract import StateKind, StateTensor
from server.runtime.machine.anonymous_memory import move_pages
from server.runtime.slots import SlotPool
from tests.engine.conftest import StartEngine
from tests.engine.requests import request, until_idle

LONG, SHORT, HEADS = 4000, 100, 4
KV = StateTensor("past_key_values.0.key", "present.0.key", StateKind.KV, (HEADS, 64), np.dtype(np.float32))
CONV = StateTensor("past_conv.0", "present_conv.0", StateKind.CONV, (32, 3), np.dtype(np.float32))

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system cannot drop pages")


def fill(pool: SlotPool, slot: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool.arrays[KV.past][slot, :, :length] = rng.random((HEADS, length, 64), np.float32)
    pool.arrays[CONV.past][slot] = rng.random((32, 3), np.float32)


def holds(pool: SlotPool, slot: int, length: int, seed: int) -> bool:
    expected = SlotPool([KV, CONV], 1, LONG)
    fill(expected, 0, length, seed)
    same = [pool.arrays[KV.past][slot, :, :length] == expected.arrays[KV.past][0, :, :length]]
    same.append(pool.arrays[CONV.past][slot] == expected.arrays[CONV.past][0])
    return all(array.all() for array in same)


def resident_tokens(pool: SlotPool) -> float:
    """Return the number of tokens whose KV would fill the resident pages."""
    array = pool.arrays[KV.past]
    pages = (ctypes.c_ubyte * -(-array.nbytes // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), pages) == 0
    return sum(page & 1 for page in pages) * mmap.PAGESIZE / KV.bytes_per_token


@pytest.fixture
def pool() -> SlotPool:
    pool = SlotPool([KV, CONV], 3, LONG)
    fill(pool, 0, LONG, seed=1)
    fill(pool, 1, SHORT, seed=2)
    return pool


def test_a_sequence_moved_into_a_longer_ones_slot_takes_only_its_own_memory(pool: SlotPool) -> None:
    pool.move(1, 0, SHORT)
    assert holds(pool, 0, SHORT, seed=2)
    assert resident_tokens(pool) < 1.5 * SHORT


@pytest.mark.parametrize("turns", [1, 2])
def test_swapped_sequences_keep_their_state(pool: SlotPool, turns: int) -> None:
    for turn in range(turns):
        long, short = (0, 1) if turn == 0 else (1, 0)
        pool.swap(long, short, LONG, SHORT)
    assert holds(pool, turns % 2, LONG, seed=1)
    assert holds(pool, 1 - turns % 2, SHORT, seed=2)
    assert resident_tokens(pool) < LONG + 1.5 * SHORT


def test_pages_move_without_a_copy(pool: SlotPool) -> None:
    if platform.system() != "Linux" or tuple(map(int, platform.release().split(".")[:2])) < (5, 7):
        pytest.skip("the system cannot move pages")
    array = pool.arrays[KV.past]
    kept = array[0].copy()
    assert move_pages(array[0], array[2])
    assert (array[2] == kept).all()
    assert not array[0].any()


def test_a_target_is_usable_after_a_failed_move(pool: SlotPool) -> None:
    array = pool.arrays[KV.past]
    nowhere = np.ctypeslib.as_array((ctypes.c_float * array[0].size).from_address(mmap.PAGESIZE))
    assert not move_pages(nowhere, array[2])
    array[2] = 1
    assert (array[2] == 1).all()


def test_slots_that_are_not_whole_pages_are_copied() -> None:
    state = StateTensor("past_key_values.0.key", "present.0.key", StateKind.KV, (3, 5), np.dtype(np.float32))
    pool = SlotPool([state], 3, max_len=7)
    array = pool.arrays[state.past]
    for slot in range(3):
        array[slot] = slot + 1
    pool.swap(0, 1, 7, 4)
    assert (array[0, :, :4] == 2).all()
    assert (array[1] == 1).all()
    pool.move(1, 2, 7)
    assert (array[2] == 1).all()


def test_a_released_slot_takes_no_memory(pool: SlotPool) -> None:
    pool.release(0)
    assert resident_tokens(pool) < 1.5 * SHORT


async def test_sequences_that_leave_together_are_not_moved_first(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []
    move = SlotPool.move

    def record(pool: SlotPool, source: int, target: int, length: int) -> None:
        moved.append(source)
        move(pool, source, target, length)

    async with start_engine("onnx-community") as engine:
        streams = engine.submit([request(seed, max_tokens=200) for seed in range(4)])
        for stream in streams:
            await anext(stream)
            await anext(stream)  # drawn by a decode step, so the sequence has its place in the batch
        monkeypatch.setattr(SlotPool, "move", record)
        with engine._wake:
            for stream in streams:
                stream.cancel()
        await until_idle(engine)
    assert moved == []
