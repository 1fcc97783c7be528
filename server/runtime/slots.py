"""Manages the memory of running sequences, divided into slots.

A slot has address space for a sequence of maximum length. Only touched pages take memory. Releasing a slot frees them.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence

import numpy as np

from server.runtime.contract import StateKind, StateTensor
from server.runtime.machine.anonymous_memory import anonymous_mapping, move_pages
from server.runtime.snapshots import Array, Snapshot

Windows = Mapping[str, Array]
"""The convolution windows of one sequence, keyed by `StateTensor.past`.

Each is [hidden, L] (see `StateTensor`).
"""


class SlotPool:
    """The state of up to `n_slots` sequences of at most `max_len` tokens.

    Different threads may use different slots at the same time.

    arrays: state of all slots and, in the last row, of a spare one for swaps; keyed by `StateTensor.past`. KV is
        [n_slots + 1, kv_heads, max_len, head_dim]. Convolution windows are [n_slots + 1, hidden, L] (see
        `StateTensor`).
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
        """Reset a slot for a new sequence."""
        for state in self.states:
            if state.kind is StateKind.CONV:
                self.arrays[state.past][slot] = 0  # old KV may stay: the attention mask hides it

    def move(self, source: int, target: int, length: int) -> None:
        """Move the state of `length` tokens to another slot, and release the old slot.

        Where the system can, no token is copied.
        """
        for state in self.states:
            array = self.arrays[state.past]
            if state.kind is StateKind.CONV:
                array[target] = array[source]
            elif not move_pages(array[source], array[target]):
                array[target, :, :length] = array[source, :, :length]
        self._trim(target, length)
        self.release(source)

    def swap(self, a: int, b: int, a_length: int, b_length: int) -> None:
        """Exchange the states of the slots `a` and `b`.

        a_length, b_length: number of tokens in each slot.
        """
        spare = self.n_slots
        self.move(a, spare, a_length)
        self.move(b, a, b_length)
        self.move(spare, b, a_length)

    def release(self, slot: int) -> None:
        """Give a slot's memory back to the system. Does nothing except on Linux."""
        for state in self.states:
            stride = self.arrays[state.past].strides[0]
            self._drop_pages(state, slot * stride, (slot + 1) * stride)

    def save(self, slot: int, begin: int, end: int, windows: Windows | None = None) -> Snapshot:
        """Return a copy of the state of tokens `begin` .. `end` - 1.

        windows: convolution windows after these tokens; None for those in the slot.
        """
        snapshot = Snapshot(self.states, end - begin)
        for name, array in snapshot.kv.items():
            array[:] = self.arrays[name][slot, :, begin:end]
        for name, window in snapshot.windows.items():
            window[:] = self.arrays[name][slot] if windows is None else windows[name]
        return snapshot

    def load(self, slot: int, snapshots: Sequence[Snapshot], length: int) -> None:
        """Restore `length` tokens of consecutive snapshots into a slot, from token 0 on.

        The last snapshot may have more tokens if the model has no convolutions.
        """
        begin = 0
        for snapshot in snapshots:
            end = min(begin + snapshot.length, length)
            for name, array in snapshot.kv.items():
                self.arrays[name][slot, :, begin:end] = array[:, : end - begin]
            begin = end
        for name, window in snapshots[-1].windows.items():
            self.arrays[name][slot] = window

    def _trim(self, slot: int, length: int) -> None:
        """Free the KV memory of a slot, except that of its first `length` tokens."""
        for state in self.states:
            if state.kind is not StateKind.KV:
                continue
            array = self.arrays[state.past]
            for head in range(array.shape[1]):
                begin = slot * array.strides[0] + head * array.strides[1]
                self._drop_pages(state, begin + length * array.strides[2], begin + array.strides[1])

    def _drop_pages(self, state: StateTensor, begin: int, end: int) -> None:
        """Drop the pages entirely within bytes `begin` .. `end` - 1 of a state's memory."""
        begin, end = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin and hasattr(mmap, "MADV_DONTNEED"):
            self._mappings[state.past].madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _map(self, state: StateTensor) -> None:
        first, last = state.shape
        rows = self.n_slots + 1
        shape = (rows, first, self.max_len, last) if state.kind is StateKind.KV else (rows, first, last)
        mapping = anonymous_mapping(int(np.prod(shape)) * state.dtype.itemsize)
        self._mappings[state.past] = mapping
        self.arrays[state.past] = np.frombuffer(mapping, dtype=state.dtype).reshape(shape)
