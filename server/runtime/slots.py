"""Where the state of running sequences lives: one mapping per state tensor, a slot per sequence.

Memory is mapped for the longest sequence but only touched pages cost anything; a released slot gives them back.
Knows nothing of sequences: who owns which slot is the engine's business.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence

import numpy as np

from server.runtime.contract import StateKind, StateTensor
from server.runtime.snapshots import Array, Snapshot, anonymous_mapping

Windows = Mapping[str, Array]
"""The convolutions' windows of one sequence, [hidden, L] each, by the names of their past inputs."""


class SlotPool:
    """State for `n_slots` sequences of at most `max_len` tokens.

    `arrays[past name]` is [n_slots, kv_heads, max_len, head_dim] for KV and [n_slots, hidden, L] for a convolution;
    the first n slots of each are one contiguous block, so a decode batch is a view of the front.
    """

    def __init__(self, states: Sequence[StateTensor], n_slots: int, max_len: int) -> None:
        self.n_slots = n_slots
        self.max_len = max_len
        self.states = tuple(states)
        self._mappings: dict[str, mmap.mmap] = {}
        self.arrays: dict[str, Array] = {}
        for state in self.states:
            self._map(state)

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new sequence: convolutions start from zeros, KV is covered by the attention mask."""
        for state in self.states:
            if state.kind is StateKind.CONV:
                self.arrays[state.past][slot] = 0

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the state of a sequence of `length` tokens to another slot and release its old one."""
        for state in self.states:
            array = self.arrays[state.past]
            if state.kind is StateKind.KV:
                array[target, :, :length] = array[source, :, :length]
            else:
                array[target] = array[source]
        self.release(source)

    def swap(self, a: int, b: int, length: int) -> None:
        """Exchange two slots whose sequences have at most `length` tokens."""
        for state in self.states:
            array = self.arrays[state.past]
            rows = array[:, :, :length] if state.kind is StateKind.KV else array
            rows[[a, b]] = rows[[b, a]]

    def release(self, slot: int) -> None:
        """Give a slot's pages back to the system (where it takes them at once: Linux)."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        for state in self.states:
            array = self.arrays[state.past]
            begin = -(-slot * array.strides[0] // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (slot + 1) * array.strides[0] // mmap.PAGESIZE * mmap.PAGESIZE
            if end > begin:
                self._mappings[state.past].madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def save(self, slot: int, begin: int, end: int, windows: Windows | None = None) -> Snapshot:
        """A copy of the state of tokens `begin` .. `end` - 1; `windows` if the convolutions have gone on since."""
        snapshot = Snapshot(self.states, end - begin)
        for name, array in snapshot.kv.items():
            array[:] = self.arrays[name][slot, :, begin:end]
        for name, window in snapshot.windows.items():
            window[:] = self.arrays[name][slot] if windows is None else windows[name]
        return snapshot

    def load(self, slot: int, snapshots: Sequence[Snapshot]) -> None:
        """Put consecutive snapshots, the first of which begins at token 0, into a slot."""
        begin = 0
        for snapshot in snapshots:
            for name, array in snapshot.kv.items():
                self.arrays[name][slot, :, begin : begin + snapshot.length] = array
            begin += snapshot.length
        for name, window in snapshots[-1].windows.items():
            self.arrays[name][slot] = window

    def _map(self, state: StateTensor) -> None:
        first, last = state.shape
        shape = (self.n_slots, first, self.max_len, last) if state.kind is StateKind.KV else (self.n_slots, first, last)
        mapping = anonymous_mapping(int(np.prod(shape)) * state.dtype.itemsize)
        self._mappings[state.past] = mapping
        self.arrays[state.past] = np.frombuffer(mapping, dtype=state.dtype).reshape(shape)
