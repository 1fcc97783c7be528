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
        """Copy the state of a sequence of `length` tokens to another slot, which holds no more then, and release its
        old one."""
        for state in self.states:
            array = self.arrays[state.past]
            if state.kind is StateKind.KV:
                array[target, :, :length] = array[source, :, :length]
            else:
                array[target] = array[source]
        self._trim(target, length)
        self.release(source)

    def swap(self, long: int, short: int, length: int, least: int) -> None:
        """Exchange two slots whose sequences have `length` tokens and `least`, which are no more."""
        for state in self.states:
            array = self.arrays[state.past]
            if state.kind is StateKind.KV:
                array[short, :, least:length] = array[long, :, least:length]
                array = array[:, :, :least]
            array[[long, short]] = array[[short, long]]
        self._trim(long, least)

    def release(self, slot: int) -> None:
        """Give a slot's pages back to the system (where it takes them at once: Linux)."""
        for state in self.states:
            stride = self.arrays[state.past].strides[0]
            self._give_back(state, slot * stride, (slot + 1) * stride)

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

    def _trim(self, slot: int, length: int) -> None:
        """Give back the pages of what lies in a slot behind its first `length` tokens."""
        for state in self.states:
            if state.kind is not StateKind.KV:
                continue
            array = self.arrays[state.past]
            for head in range(array.shape[1]):
                begin = slot * array.strides[0] + head * array.strides[1]
                self._give_back(state, begin + length * array.strides[2], begin + array.strides[1])

    def _give_back(self, state: StateTensor, begin: int, end: int) -> None:
        """Drop the whole pages between two bytes of a state's mapping."""
        begin, end = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin and hasattr(mmap, "MADV_DONTNEED"):
            self._mappings[state.past].madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _map(self, state: StateTensor) -> None:
        first, last = state.shape
        shape = (self.n_slots, first, self.max_len, last) if state.kind is StateKind.KV else (self.n_slots, first, last)
        mapping = anonymous_mapping(int(np.prod(shape)) * state.dtype.itemsize)
        self._mappings[state.past] = mapping
        self.arrays[state.past] = np.frombuffer(mapping, dtype=state.dtype).reshape(shape)
