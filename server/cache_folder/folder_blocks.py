"""Tracks which blocks of a model are in a cache folder, for KV events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from server.cache_folder.entry import read_key
from server.cache_folder.folder import EntryFolder, paced
from server.cache_folder.state_block import BlockKey
from server.kv_events.blocks import BLOCK_TOKENS, Block
from server.kv_events.changes import Change, PendingChanges, Removed, Stored

ON_DISK = "STORAGE"
"""The medium that KV events name for blocks on disk, as in vLLM."""

SCAN_SECONDS = 60.0
"""The time after which the folder is scanned again, since other servers may have changed it."""


class FolderBlocks:
    """The blocks of one model in a cache folder.

    This server reports its own changes at once. A scan finds the changes of other servers. Thread-safe.

    medium: the name that events use for the folder.
    changes: the changes waiting to be published.
    """

    medium = ON_DISK

    def __init__(self, folder: EntryFolder, identity: bytes, scan_seconds: float = SCAN_SECONDS) -> None:
        """Create a tracker that knows no blocks.

        The first call to `take` or `take_all` scans the folder.

        identity: hash of the model (see `block_names.model_identity`).
        scan_seconds: minimum time between two scans.
        """
        self.changes = PendingChanges()
        self._folder = folder
        self._identity = identity
        self._scan_seconds = scan_seconds
        self._scanned_at = float("-inf")
        self._foreign: set[str] = set()  # files found by the last scan that hold no block of this model
        self._lock = threading.Lock()
        self._held: set[str] = set()

    def add(self, keys: Iterable[BlockKey]) -> None:
        """Record blocks that are in the folder now."""
        with self._lock:
            new = [key for key in keys if key.name not in self._held]
            self._held.update(key.name for key in new)
            self.changes.add([Stored(_block(key)) for key in new])

    def discard(self, names: Iterable[str]) -> None:
        """Record files that have left the folder. Ignores files of other models."""
        with self._lock:
            gone = [name for name in names if name in self._held]
            self._held.difference_update(gone)
            self.changes.add([Removed(bytes.fromhex(name)) for name in gone])

    def take(self) -> list[Change] | None:
        """Return the changes since the last call, in order; None if there were too many.

        Scans the folder first if the last scan was at least `scan_seconds` ago.
        """
        if time.monotonic() - self._scanned_at >= self._scan_seconds:
            with self._lock:
                before = self._held.copy()
            missing, found = self._scan(before)
            self.discard(missing)
            self.add(found)
        return self.changes.take()

    def take_all(self) -> list[Block]:
        """Return all blocks in the folder, each after its parent.

        Discards the changes waiting to be published.
        """
        with self._lock:
            self.changes.reset()
            self._held = set()
        _, found = self._scan(set())
        with self._lock:
            self._held.update(key.name for key in found)
        return [_block(key) for key in found]

    def _scan(self, before: set[str]) -> tuple[set[str], list[BlockKey]]:
        """Compare the folder with the names in `before`.

        Returns the names in `before` that are no longer in the folder, and the keys of this model's new blocks, each
        after its parent.
        Finds no difference if the folder cannot be read.
        """
        self._scanned_at = time.monotonic()
        try:
            names = self._folder.names()
        except OSError:
            return set(), []
        self._foreign &= names
        found = []
        for name in paced(names - before - self._foreign):
            with suppress(OSError), self._folder.open(name) as file:
                key = read_key(file, self._identity)
                if key is None or key.name != name:
                    self._foreign.add(name)
                else:
                    found.append(key)
        return before - names, sorted(found, key=lambda key: key.end)


def _block(key: BlockKey) -> Block:
    parent = None if key.end == BLOCK_TOKENS else bytes.fromhex(key.parent)
    return Block(bytes.fromhex(key.name), parent, key.tokens)
