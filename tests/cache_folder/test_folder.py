"""The folder alone: names, eviction, writers at the same time, and many entries."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from server.cache_folder.block_names import BlockNames
from server.cache_folder.disk_cache import DiskCache
from server.cache_folder.entry import EntryFormat, UnstorableBlockError
from server.cache_folder.folder import EntryFolder
from server.cache_folder.folder_blocks import FolderBlocks
from server.cache_folder.reader import Lookup
from server.cache_folder.state_block import BlockKey, Piece, StateBlock
from server.cli import main
from server.kv_events.blocks import BLOCK_TOKENS
from server.kv_events.changes import Stored
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot
from tests.waiting import wait_until

KV = StateTensor("past.0.key", "present.0.key", StateKind.KV, (2, 4), np.dtype(np.float32))
CONV = StateTensor("past_conv.1", "present_conv.1", StateKind.CONV, (3, 2), np.dtype(np.float32))
TOKENS = np.arange(1000)
MANY = 5_000


def block_names(identity: bytes, salt: str, tokens: npt.NDArray[np.int64]) -> list[str]:
    names = BlockNames(identity, salt)
    names.extend(tokens)
    return names.names


def block(form: EntryFormat, index: int = 0) -> StateBlock:
    names = BlockNames(form.identity, "")
    names.extend(TOKENS)
    snapshot = Snapshot(form.states, BLOCK_TOKENS)
    snapshot.kv[KV.past][:] = np.random.default_rng(index).normal(size=(2, BLOCK_TOKENS, 4))
    end = (index + 1) * BLOCK_TOKENS
    key = BlockKey(names.names[index], names.parent(index), end, TOKENS[end - BLOCK_TOKENS : end])
    return StateBlock(key, (Piece(snapshot, 0, 40), Piece(snapshot, 40, BLOCK_TOKENS)), snapshot.windows)


def store(cache: DiskCache, written: StateBlock) -> None:
    """Write a block and wait until it is written."""
    before = cache.stats().written_blocks
    cache.write(written)
    wait_until(lambda: cache.stats().written_blocks > before)


def look_up(cache: DiskCache, end: int) -> list[Snapshot]:
    """Return what the cache reads of the first `end` blocks of TOKENS."""
    names, delivered, done = cache.names(""), list[Snapshot](), threading.Event()
    names.extend(TOKENS)

    def deliver(snapshots: Sequence[Snapshot], last: bool) -> bool:
        delivered.extend(snapshots)
        if last:
            done.set()
        return True

    assert cache.look_up(Lookup(names, TOKENS, lambda: 0, end, 1e9, time.monotonic() + 60, deliver))
    assert done.wait(60)
    return delivered


@pytest.fixture
def form() -> EntryFormat:
    return EntryFormat((KV, CONV), b"model", half=False)


def test_a_name_depends_on_all_tokens_before_the_end_of_its_block() -> None:
    names = block_names(b"model", "", TOKENS)
    assert len(names) == len(set(names)) == 1000 // BLOCK_TOKENS
    assert block_names(b"model", "", TOKENS[:200]) == names[:3]
    changed = TOKENS.copy()
    changed[70] = 0
    assert [a == b for a, b in zip(names, block_names(b"model", "", changed), strict=True)][:3] == [True, False, False]
    assert not {*names} & {*block_names(b"model", "salt", TOKENS)}
    assert not {*names} & {*block_names(b"other", "", TOKENS)}


def test_names_of_a_growing_sequence_are_those_of_the_whole_one() -> None:
    names = BlockNames(b"model", "salt")
    for end in (10, 64, 127, 128, 700, 1000):
        names.extend(TOKENS[:end])
        assert names.names == block_names(b"model", "salt", TOKENS[:end])


def test_float16_refuses_values_beyond_its_range() -> None:
    half = EntryFormat((KV, CONV), b"model", half=True)
    large = block(half)
    large.pieces[0].snapshot.kv[KV.past][0, 0, 0] = 1e6
    with pytest.raises(UnstorableBlockError):
        half.encode(large)


def test_writers_of_one_entry_leave_it_whole(tmp_path: Path, form: EntryFormat) -> None:
    folder, wanted = EntryFolder(tmp_path / "cache"), block(form)
    parts = form.encode(wanted)
    folder.write(wanted.key.name, parts)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            EntryFolder(tmp_path / "cache").write(wanted.key.name, parts)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in writers:
        thread.start()
    try:
        for _ in range(100):
            with folder.open(wanted.key.name) as file:
                decoded = form.decode(file, wanted.key)
            assert np.array_equal(decoded.snapshot.kv[KV.past], wanted.kv(KV.past))
    finally:
        done.set()
        for thread in writers:
            thread.join()
    assert not list(tmp_path.rglob("*.partial"))


def test_the_least_recently_used_of_many_entries_are_evicted(tmp_path: Path) -> None:
    folder = EntryFolder(tmp_path / "cache")
    folder.create()
    names = [f"{index % 256:02x}{index:030x}" for index in range(MANY)]
    for index, name in enumerate(names):
        path = folder.file(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"0" * 100)
        os.utime(path, (index, index))
    folder.touch(names[0])
    evicted, remaining = folder.sweep(MANY * 50)
    assert remaining <= MANY * 50
    assert evicted == names[1 : len(evicted) + 1]
    assert folder.exists(names[0])
    assert folder.listing().bytes == remaining
    assert folder.sweep(remaining) == ([], remaining)


def test_nothing_but_entries_is_ever_removed(tmp_path: Path) -> None:
    folder = EntryFolder(tmp_path / "cache")
    folder.create()
    kept = [tmp_path / "cache" / "notes.txt", tmp_path / "cache" / "blocks" / "ab" / "notes.txt"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    young, left_behind = (tmp_path / "cache" / "blocks" / "ab" / f".{'a' * 32}.{n:016x}.partial" for n in (1, 2))
    for path in (young, left_behind):
        path.write_text("half")
    os.utime(left_behind, (0, 0))
    folder.sweep(0)
    assert [path.exists() for path in (*kept, young, left_behind)] == [True, True, True, False]
    folder.clear()
    assert [path.exists() for path in (*kept, young)] == [True, True, False]


def test_changes_are_reported(tmp_path: Path, form: EntryFormat) -> None:
    held = FolderBlocks(EntryFolder(tmp_path / "cache"), form.identity)
    cache = DiskCache(tmp_path / "cache", 1 << 20, form, held)
    assert held.take() == []
    cache.start()
    blocks = [block(form, index) for index in range(3)]
    cache.finish(blocks, time.monotonic() + 60)
    changes = held.take()
    assert changes is not None
    stored = [change for change in changes if isinstance(change, Stored)]
    assert len(stored) == len(changes)
    assert [change.block.name.hex() for change in stored] == [each.key.name for each in blocks]
    assert [change.block.parent is None for change in stored] == [True, False, False]


def test_only_the_models_own_blocks_are_reported(tmp_path: Path, form: EntryFormat) -> None:
    folder, (mine, other) = EntryFolder(tmp_path), (block(form), block(form, 1))
    foreign, whole = EntryFormat((KV,), b"another model", half=False), b"".join(form.encode(mine))
    folder.write(mine.key.name, [whole])
    folder.write(other.key.name, [whole])
    folder.write(block(foreign).key.name, foreign.encode(block(foreign)))
    deep = (200_000).to_bytes(8, "little") + b"[" * 200_000
    for digit, content in enumerate((b"something else", b"", deep, whole[:20], whole[:600], whole[:603])):
        folder.write(str(digit) * 32, [content])
    held = FolderBlocks(folder, form.identity)
    assert [found.name.hex() for found in held.take_all()] == [mine.key.name]
    assert held.take() == []


def test_a_damaged_block_is_written_again(tmp_path: Path, form: EntryFormat) -> None:
    cache, folder, written = DiskCache(tmp_path / "cache", 1 << 20, form), EntryFolder(tmp_path / "cache"), block(form)
    cache.start()
    store(cache, written)
    folder.file(written.key.name).write_bytes(b"damaged")
    assert look_up(cache, 1) == []
    store(cache, written)
    assert [snapshot.length for snapshot in look_up(cache, 1)] == [BLOCK_TOKENS]
    cache.finish((), time.monotonic() + 60)


def test_an_evicted_block_is_written_again(tmp_path: Path, form: EntryFormat) -> None:
    size = sum(len(part) for part in form.encode(block(form)))
    cache, folder = DiskCache(tmp_path / "cache", 2 * size + size // 2, form), EntryFolder(tmp_path / "cache")
    cache.start()
    for index in (0, 1, 2, 0):
        store(cache, block(form, index))
    assert folder.exists(block(form, 0).key.name)
    assert cache.stats().evicted_blocks >= 2
    cache.finish((), time.monotonic() + 60)


def test_blocks_without_windows_are_joined_with_the_next_block_that_has_some(tmp_path: Path, form: EntryFormat) -> None:
    blocks = [block(form, index) for index in range(3)]
    names = BlockNames(form.identity, "")
    names.extend(TOKENS)
    cache = DiskCache(tmp_path / "cache", 1 << 20, form)
    cache.start()
    for each, windows in zip(blocks, ({}, blocks[1].windows, {}), strict=True):
        cache.write(StateBlock(each.key, each.pieces, windows))
    wait_until(lambda: cache.stats().written_blocks == 3)
    delivered = look_up(cache, len(names.names))
    cache.finish((), time.monotonic() + 60)
    assert [snapshot.length for snapshot in delivered] == [2 * BLOCK_TOKENS]
    kv = np.concatenate([each.kv(KV.past) for each in blocks[:2]], axis=1)
    assert np.array_equal(delivered[0].kv[KV.past], kv)


def test_the_command_lists_counts_and_clears(
    tmp_path: Path, form: EntryFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = EntryFolder(tmp_path)
    for index in range(3):
        folder.write(block(form, index).key.name, form.encode(block(form, index)))
    folder.write("f" * 32, [b"something else"])
    option = ["--cache-folder", str(tmp_path)]
    assert main(["cache", "ls", *option]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[2] for line in listed[1:]) == ["128", "192", "64", "?"]
    assert main(["cache", "stats", *option]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [[b"model".hex(), "3"], ["unknown", "1"], ["total", "4"]]
    assert main(["cache", "clear", *option]) == 0
    assert capsys.readouterr().out.startswith("Removed 4 entries")
    assert folder.listing().names == []


def test_the_command_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "ls", "--cache-folder", str(tmp_path / "missing")]) == 2
    assert "--cache-folder" in capsys.readouterr().err
    assert main(["cache", "shrink", "--cache-folder", str(tmp_path)]) == 2
    assert "ls" in capsys.readouterr().err
