"""Manages the KV caches of graphs that do not update their caches in place.

Such a graph returns a new cache, which joins past and new values. Most exports of attention-only models are like this.
Before a run, past values are copied from the slots and padded. After the run, new values are copied into the slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from server.runtime.contract import PADDING, StateKind, StateTensor
from server.runtime.slots import SlotPool

Past = npt.NDArray[np.int64]
Array = npt.NDArray[np.generic]


class JoinedCache:
    """Memory for the caches that a run reads (past) and returns (joined).

    pads: whether the graph's results stay the same if past values are padded.
    """

    def __init__(self, states: Sequence[StateTensor], pads: bool = False) -> None:
        self.pads = pads
        self._states = [state for state in states if state.kind is StateKind.KV]
        self._memory: dict[str, Array] = {}

    def takes(self, past: Past) -> bool:
        """Return whether rows can share a run.

        They can if they need no padding, or if they need little and `pads` is true.

        past: number of past tokens of each row.
        """
        longest = int(past.max())
        return bool((past == longest).all()) or (self.pads and longest * len(past) <= PADDING * int(past.sum()))

    def bind(self, binding: ort.IOBinding, slots: SlotPool, first: int, past: Past, length: int) -> None:
        """Bind the caches that a run reads and returns.

        first: row i uses slot `first` + i.
        past: number of past tokens of each row.
        length: number of new tokens per row.
        """
        longest = int(past.max())
        for state in self._states:
            joined = self._array(state.present, state, len(past), longest + length)
            padded = self._array(state.past, state, len(past), longest)
            for row, tokens in enumerate(past):
                padded[row, :, :tokens] = slots.arrays[state.past][first + row, :, :tokens]
                padded[row, :, tokens:] = 0
            binding.bind_ortvalue_input(state.past, ort.OrtValue.ortvalue_from_numpy(padded))
            binding.bind_ortvalue_output(state.present, ort.OrtValue.ortvalue_from_numpy(joined))

    def store(self, slots: SlotPool, first: int, past: Past, length: int) -> None:
        """Copy the values of the run's new tokens into the slots."""
        longest = int(past.max())
        for state in self._states:
            joined = self._array(state.present, state, len(past), longest + length)
            for row, tokens in enumerate(past):
                slots.arrays[state.past][first + row, :, tokens : tokens + length] = joined[row, :, longest:]

    def _array(self, name: str, state: StateTensor, rows: int, length: int) -> Array:
        heads, width = state.shape
        size = rows * heads * length * width
        if name not in self._memory or self._memory[name].size < size:
            self._memory[name] = np.empty(size, state.dtype)
        return self._memory[name][:size].reshape(rows, heads, length, width)


def token_mask(past: Past, length: int) -> npt.NDArray[np.bool_]:
    """Return the attention mask that hides the padding in a run on joined caches.

    The shape of the mask is [rows, max(past) + length].

    past: number of past tokens of each row.
    length: number of new tokens per row.
    """
    positions = np.arange(past.max() + length)
    mask: npt.NDArray[np.bool_] = (positions < past[:, None]) | (positions >= past.max())
    return mask
