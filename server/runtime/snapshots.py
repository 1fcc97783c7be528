"""Copies of state that outlive their slot: the KV of some tokens, and the convolutions' windows after the last of them.

Knows nothing of tokens' values or of who wants a copy.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from server.runtime.contract import StateKind, StateTensor

Array = npt.NDArray[np.generic]


class Snapshot:
    """The state of `length` consecutive tokens, in one mapping of its own that goes with the last reference.

    `kv[past name]` is [kv_heads, length, head_dim], `windows[past name]` [hidden, L]: what the convolutions have seen
    when the last of the tokens is done. `nbytes` is what it takes of memory, `window_bytes` that of the windows.
    """

    def __init__(self, states: Sequence[StateTensor], length: int) -> None:
        self.length = length
        self._states = states
        sizes = [_shape(state, length) for state in states]
        counts = [int(np.prod(shape)) * state.dtype.itemsize for state, shape in zip(states, sizes, strict=True)]
        # A mapping, not the heap: what is evicted goes back to the system at once.
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

    def split(self, at: int, windows: Mapping[str, Array]) -> tuple[Snapshot, Snapshot]:
        """The first `at` tokens, after which the convolutions' windows were `windows`, and the rest."""
        head, tail = Snapshot(self._states, at), Snapshot(self._states, self.length - at)
        for name, array in self.kv.items():
            head.kv[name][:] = array[:, :at]
            tail.kv[name][:] = array[:, at:]
        for name, window in self.windows.items():
            head.windows[name][:] = windows[name]
            tail.windows[name][:] = window
        return head, tail


def anonymous_mapping(size: int) -> mmap.mmap:
    """Zeroed private memory of `size` bytes that costs nothing before it is touched; raises MemoryError."""
    # Private, or dropped pages would stay in the shared memory file behind the mapping.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        mapping = mmap.mmap(-1, size, flags=flags)
    except (OSError, OverflowError):
        raise MemoryError(f"{size:,} bytes cannot be mapped") from None
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # With huge pages every (slot, head) would touch 2 MB at its first token.
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
    return mapping


def _shape(state: StateTensor, length: int) -> tuple[int, ...]:
    first, last = state.shape
    return (first, length, last) if state.kind is StateKind.KV else (first, last)
