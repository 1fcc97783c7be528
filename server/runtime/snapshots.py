"""Stores copies of a sequence's state that outlive its slot."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from server.runtime.contract import StateKind, StateTensor
from server.runtime.machine.anonymous_memory import anonymous_mapping

Array = npt.NDArray[np.generic]


class Snapshot:
    """The state of `length` consecutive tokens, in one memory mapping.

    kv: keys and values, [kv_heads, length, head_dim], keyed by `StateTensor.past`.
    windows: convolution windows after the last token, [hidden, L] (see `StateTensor`), with the same keys.
    nbytes: size of the mapping in bytes.
    window_bytes: size of the windows in bytes.
    """

    def __init__(self, states: Sequence[StateTensor], length: int) -> None:
        self.length = length
        self._states = states
        sizes = [_shape(state, length) for state in states]
        counts = [int(np.prod(shape)) * state.dtype.itemsize for state, shape in zip(states, sizes, strict=True)]
        # Use a mapping instead of heap memory, so that freeing it returns the memory to the system at once.
        self.nbytes = -(-max(1, sum(counts)) // mmap.PAGESIZE) * mmap.PAGESIZE
        mapping = anonymous_mapping(self.nbytes)
        self.kv: dict[str, Array] = {}
        self.windows: dict[str, Array] = {}
        offset = 0
        for state, shape, count in zip(states, sizes, counts, strict=True):
            array = np.frombuffer(mapping, state.dtype, int(np.prod(shape)), offset).reshape(shape)
            (self.kv if state.kind is StateKind.KV else self.windows)[state.past] = array
            offset += count
        self.window_bytes = sum(window.nbytes for window in self.windows.values())

    def part(self, begin: int, end: int, windows: Mapping[str, Array]) -> Snapshot:
        """Return a copy of the state of tokens `begin` .. `end` - 1.

        windows: convolution windows after these tokens.

        Raises MemoryError if the system refuses the memory.
        """
        part = Snapshot(self._states, end - begin)
        for name, array in part.kv.items():
            array[:] = self.kv[name][:, begin:end]
        for name, window in part.windows.items():
            window[:] = windows[name]
        return part

    def after(self, begin: int) -> Snapshot:
        """Return a copy of the state of the tokens from `begin` on.

        Raises MemoryError if the system refuses the memory.
        """
        return self.part(begin, self.length, self.windows)


def _shape(state: StateTensor, length: int) -> tuple[int, ...]:
    first, last = state.shape
    return (first, length, last) if state.kind is StateKind.KV else (first, last)
