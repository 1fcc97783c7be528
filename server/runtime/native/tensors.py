"""Reads the weights of a graph from the graph itself or from mapped files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

FOUR_BITS = (TensorProto.INT4, TensorProto.UINT4)
"""The types that store two values in a byte. There are no such arrays."""


class Weights:
    """The initializers of a graph.

    folder: folder with the external data files.
    mapped: the content of files that are already mapped, uint8, keyed by file name.
    """

    def __init__(self, graph: onnx.GraphProto, folder: Path, mapped: Mapping[str, Array] | None = None) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._folder = folder
        self._files: dict[str, Array] = dict(mapped or {})

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].dims)

    def data_type(self, name: str) -> int:
        """Return the TensorProto data type of an initializer.

        Returns UNDEFINED if there is no initializer called `name`.
        """
        return self._tensors[name].data_type if name in self._tensors else TensorProto.UNDEFINED

    def number(self, name: str) -> float | None:
        """Return the value of a one-element initializer, or None if `name` is not one."""
        if name not in self or np.prod(self.shape(name)) != 1:
            return None
        return float(self.array(name).reshape(-1)[0])

    def external(self) -> dict[str, Array]:
        """Return the values of all external initializers, by name, except those of types in FOUR_BITS."""
        tensors = [one for one in self._tensors.values() if one.data_location == TensorProto.EXTERNAL]
        return {one.name: self.array(one.name) for one in tensors if one.data_type not in FOUR_BITS}

    def stored(self, name: str) -> Array:
        """Return the bytes of an initializer as files store them, uint8.

        The bytes of an external initializer are a view of the mapped file.
        """
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            raw = tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
            return np.frombuffer(raw, np.uint8)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location, offset = entries["location"], int(entries.get("offset", 0))
        if location not in self._files:
            self._files[location] = np.memmap(self._folder / location, np.uint8, "r")
        count = int(np.prod(tensor.dims))
        size = -(-count // 2) if tensor.data_type in FOUR_BITS else count * _dtype(tensor).itemsize
        return self._files[location][offset : offset + size]

    def array(self, name: str) -> Array:
        """Return the value of an initializer whose type is not in FOUR_BITS.

        The value of an external initializer is a view of the mapped file.
        """
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        return self.stored(name).view(_dtype(tensor)).reshape(tuple(tensor.dims))


def _dtype(tensor: TensorProto) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
