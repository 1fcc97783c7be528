"""The blocks that events report, against what the caches hold after random operations."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from server.cache_folder.block_names import BlockNames
from server.cache_folder.disk_cache import DiskCache
from server.cache_folder.entry import EntryFormat
from server.cache_folder.folder import EntryFolder
from server.cache_folder.folder_blocks import FolderBlocks
from server.cache_folder.reader import Lookup
from server.cache_folder.state_block import BlockKey, Piece, StateBlock
from server.engine.prefix_cache import PrefixCache
from server.kv_events.blocks import BLOCK_TOKENS
from server.kv_events.held_blocks import HeldBlocks
from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Snapshot
from tests.kv_events.routers import IDENTITY, Router, hashes
from tests.waiting import wait_until

OPERATIONS, CHECK_EVERY = 10_000, 100
KV = StateTensor("past.0.key", "present.0.key", StateKind.KV, (1, 1), np.dtype(np.float32))
CONV = StateTensor("past_conv.1", "present_conv.1", StateKind.CONV, (1, 2), np.dtype(np.float32))
HYBRID, ATTENTION = EntryFormat((KV, CONV), IDENTITY, half=False), EntryFormat((KV,), IDENTITY, half=False)
FOREIGN = EntryFormat((KV,), b"another model", half=False)
DISK_BLOCKS = 40
"""The number of blocks for which the folder has room."""

PROMPTS = 60
"""The number of prompts whose blocks are written to the folder."""

Tokens = npt.NDArray[np.int64]


def random_prompt(rng: random.Random) -> tuple[Tokens, str]:
    """Return the tokens and the salt of a prompt that often begins like another one."""
    tokens = np.full(rng.randrange(BLOCK_TOKENS, 400), 7, np.int64)
    for at in rng.sample(range(400), 2):
        tokens[at:] = rng.choice((7, 8, 9))
    return tokens, rng.choice(("", "tenant"))


def snapshot(form: EntryFormat, length: int) -> Snapshot:
    made = Snapshot(form.states, length)
    for array in (*made.kv.values(), *made.windows.values()):
        array[:] = 0
    return made


def steps(cache: PrefixCache, rng: random.Random, form: EntryFormat) -> Iterator[None]:
    """Look up random prompts and insert their states at random checkpoints, as requests do; yield after each call."""
    while True:
        tokens, salt = random_prompt(rng)
        begin = cache.match(tokens, salt).length
        yield
        regular = [at for at in range(BLOCK_TOKENS, len(tokens), BLOCK_TOKENS) if rng.random() < 0.8]
        for end in sorted({*regular, *rng.sample(range(400), 2), len(tokens)}):
            if begin < end <= len(tokens):
                cache.insert(tokens[:end], salt, snapshot(form, end - begin))
                begin = end
                yield


def in_memory(cache: PrefixCache) -> set[int]:
    """Return the hashes of all whole blocks in a cache."""
    paths = ((salt, np.concatenate([node.tokens for node in nodes])) for salt, nodes in cache.paths())
    return {found for salt, tokens in paths for found in hashes(tokens, salt)}


@pytest.mark.parametrize(
    ("form", "max_changes"), [(HYBRID, 1 << 30), (ATTENTION, 20)], ids=["hybrid", "attention, dropped changes"]
)
def test_replayed_events_equal_the_cache_in_memory(form: EntryFormat, max_changes: int) -> None:
    held = HeldBlocks(IDENTITY, max_changes)
    cache, router, rng = PrefixCache(60 * Snapshot(form.states, 1).nbytes, held), Router(), random.Random(1)
    step, largest = steps(cache, rng, form), 0
    for operation in range(1, OPERATIONS + 1):
        next(step)
        followed = router.follow(held) if rng.random() < 0.2 else set()
        largest = max(largest, len(followed))
        if operation % CHECK_EVERY == 0:
            assert router.follow(held) == in_memory(cache)
    assert cache.evicted_tokens > 0
    assert largest > 20


class SharedFolder:
    """A cache folder that the server under test shares with another server. Each public method is an operation."""

    def __init__(self, path: Path, rng: random.Random, scan_seconds: float) -> None:
        self._rng = rng
        self._prompts = [random_prompt(rng) for _ in range(PROMPTS)]
        size = sum(len(part) for part in HYBRID.encode(self._block(HYBRID)))
        self.folder = EntryFolder(path)
        self.held = FolderBlocks(self.folder, IDENTITY, scan_seconds)
        self.disk = DiskCache(path, DISK_BLOCKS * size, HYBRID, self.held)

    def write(self) -> None:
        self.disk.write(self._block(HYBRID))

    def read(self) -> None:
        """Read a prompt's blocks. This removes the damaged ones among them."""
        tokens, salt = self._rng.choice(self._prompts)
        names, done = self.disk.names(salt), threading.Event()
        names.extend(tokens)
        deadline = time.monotonic() + 60
        deliver = lambda _, last: last and done.set()  # noqa: E731
        assert self.disk.look_up(Lookup(names, tokens, lambda: 0, len(names.names), 1e9, deadline, deliver))
        assert done.wait(60)

    def damage(self) -> None:
        """Change the last byte of an entry, which belongs to its state, if the block is in the folder."""
        name = self._block(HYBRID).key.name
        with contextlib.suppress(FileNotFoundError), self.folder.file(name).open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\1")

    def other_writes(self) -> None:
        """Write a block of this model or of another one, as another server does."""
        form = self._rng.choice((HYBRID, HYBRID, FOREIGN))
        block = self._block(form)
        self.folder.write(block.key.name, form.encode(block))

    def other_removes(self) -> None:
        self.folder.remove(self._block(HYBRID).key.name)

    def folder_vanishes(self) -> None:
        if self._rng.random() < 0.01:
            shutil.rmtree(self.folder.path, ignore_errors=True)

    def content(self) -> set[int]:
        """Return the hashes of the model's blocks in the folder."""
        known = {found for tokens, salt in self._prompts for found in hashes(tokens, salt)}
        return known & {int(name[-16:], 16) for name in self.folder.names()}

    def _block(self, form: EntryFormat) -> StateBlock:
        """Return any block of any prompt."""
        tokens, salt = self._rng.choice(self._prompts)
        names = BlockNames(form.identity, salt)
        names.extend(tokens)
        index, state = self._rng.randrange(len(names.names)), snapshot(form, BLOCK_TOKENS)
        end = (index + 1) * BLOCK_TOKENS
        key = BlockKey(names.names[index], names.parent(index), end, tokens[end - BLOCK_TOKENS : end])
        return StateBlock(key, (Piece(state, 0, BLOCK_TOKENS),), state.windows)


@pytest.mark.parametrize("shared", [False, True], ids=["own folder", "shared folder"])
def test_replayed_events_equal_the_caches_in_memory_and_on_disk(tmp_path: Path, shared: bool) -> None:
    """Alone, the server scans its folder once; with a second server, it scans at each call."""
    held, router, rng = HeldBlocks(IDENTITY), Router(), random.Random(1)
    cache = PrefixCache(60 * Snapshot(HYBRID.states, 1).nbytes, held)
    folder = SharedFolder(tmp_path / "cache", rng, 0 if shared else float("inf"))
    step: Callable[[], object] = partial(next, steps(cache, rng, HYBRID))
    own = [*[step] * 4, *[folder.write, folder.read, folder.damage] * 2]
    others = [folder.other_writes, folder.other_removes, folder.folder_vanishes] if shared else []
    for _ in range(10):
        folder.other_writes()
    assert router.follow(folder.held) == folder.content() != set()
    folder.disk.start()
    for operation in range(1, OPERATIONS + 1):
        rng.choice((*own, *others))()
        if operation % CHECK_EVERY == 0:
            assert router.follow(held) == in_memory(cache)
            wait_until(lambda: router.follow(folder.held) == folder.content())
    folder.disk.finish((), time.monotonic() + 60)
    assert router.follow(folder.held) == folder.content()
    stats = folder.disk.stats()
    assert min(stats.written_blocks, stats.read_blocks, stats.evicted_blocks, stats.damaged_files) > 0
    assert shared or stats.errors == 0
