"""Reads the weights for an export from a checkpoint, or generates random ones.

Sources yield one tensor at a time. The model need not fit into memory.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes  # noqa: F401  (registers bfloat16, which safetensors uses in numpy)
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from server.errors import ExportError
from server.export.int4 import BLOCK, FloatArray, Int4, quantize

FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes that weights may have, by their names in safetensors files."""
INTEGERS = {"I8": "int8", "U8": "uint8", "I32": "int32"}
INDEX_FILE, SINGLE_FILE = "model.safetensors.index.json", "model.safetensors"


class TensorSource(Protocol):
    """A source of a model's tensors, by their names in `server.export.tensors`."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""

    def float32(self, name: str) -> FloatArray:
        """Return a tensor in float32."""

    def int4(self, name: str) -> Int4:
        """Return a matrix [rows, columns] in int4."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The location of a tensor in a checkpoint.

    A fused tensor [experts, rows, columns] holds the tensors of all experts.

    stored: name of the stored tensor.
    expert: index of the expert in a fused tensor; None if the tensor is not fused.
    half: 0 for the first half of the expert's rows, 1 for the second; None for all rows.
    """

    stored: str
    expert: int | None = None
    half: int | None = None


class Checkpoint:
    """The tensors of a checkpoint folder, in one or more safetensors files.

    Reading a tensor raises ExportError if it is unreadable, its dtype is not in FLOATS, or its shape is unexpected.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Locate all tensors.

        shapes: expected shapes of the tensors, keyed by name.

        Raises ExportError if `folder` is not a checkpoint or tensors are missing.
        """
        self._files, self._shapes = _files_by_tensor(folder, shapes), shapes
        self._places = {name: _place(name, self._files) for name in shapes}
        missing = _missing(shapes, self._files)
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise ExportError(
                f"{folder} lacks {len(missing)} of {len(shapes)} tensors: {', '.join(missing[:5])}{more}."
            )

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def float32(self, name: str) -> FloatArray:
        place = self._places[name]
        path = self._files[place.stored]
        try:
            # Opened for each tensor: a file that stays open would keep all its pages in memory.
            with safe_open(path, framework="np") as file:
                dtype = file.get_slice(place.stored).get_dtype()
                stored = _read(file, place) if dtype in FLOATS else None
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{place.stored} cannot be read from {path}: {error}.") from None
        if stored is None:
            raise ExportError(
                f"{name} is {INTEGERS.get(dtype, dtype)} in {path}; weights must be {' or '.join(FLOATS.values())}. "
                "Export the original checkpoint, before quantization."
            )
        tensor = np.asarray(stored, dtype=np.float32)
        if tensor.shape != self._shapes[name]:
            expected = list(self._shapes[name])
            raise ExportError(f"{name} has shape {list(tensor.shape)} in {path}; config.json requires {expected}.")
        return tensor

    def int4(self, name: str) -> Int4:
        return quantize(self.float32(name))


class RandomWeights:
    """Random weights that keep activations near unit scale.

    A tensor depends only on its name, its shape and the seed.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
        self._shapes, self._seed = shapes, seed

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def float32(self, name: str) -> FloatArray:
        shape = self._shapes[name]
        if name.endswith("norm.weight"):
            return np.ones(shape, np.float32)
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        return self._rng(name).standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]))

    def int4(self, name: str) -> Int4:
        rows, columns = self._shapes[name]
        # Nibbles are drawn directly, so that 8 billion weights take seconds.
        packed = np.frombuffer(self._rng(name).bytes(rows * columns // 2), np.uint8).reshape(rows, -1)
        uniform_std = np.sqrt((16**2 - 1) / 12)
        scales = np.full((rows, columns // BLOCK), 1 / np.sqrt(columns) / uniform_std, np.float32)
        zero_points = np.full((rows, -(-columns // BLOCK // 2)), 0x88, np.uint8)
        return Int4(packed, scales, zero_points)

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(name.encode())])


def _files_by_tensor(folder: Path, wanted: Iterable[str]) -> dict[str, Path]:
    """Return the file of each stored tensor, by the tensor's name.

    A checkpoint is a single file, or several files with an index.
    """
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if not index.is_file():
        if not single.is_file():
            raise ExportError(f"{folder} is not a checkpoint: it has neither {SINGLE_FILE} nor {INDEX_FILE}.")
        return _tensors_of(single)
    if single.is_file():
        try:
            files = _tensors_of(single)
        except ExportError:
            files = {}
        if not _missing(wanted, files):  # complete, so the index is probably of an earlier checkpoint
            return files
    return _shards(folder, index)


def _tensors_of(single: Path) -> dict[str, Path]:
    try:
        with safe_open(single, framework="np") as file:
            return dict.fromkeys(file.keys(), single)
    except (SafetensorError, OSError) as error:
        raise ExportError(f"{single} cannot be read: {error}.") from None


def _shards(folder: Path, index: Path) -> dict[str, Path]:
    try:
        files = {name: folder / file for name, file in json.loads(index.read_text())["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExportError(
            f'{index} is invalid: it must be JSON with a "weight_map" that maps tensors to files.'
        ) from None
    if absent := sorted({path.name for path in files.values() if not path.is_file()}):
        raise ExportError(f"{folder} lacks {', '.join(absent)}, which {INDEX_FILE} lists.")
    return files


def _missing(wanted: Iterable[str], files: Mapping[str, Path]) -> list[str]:
    return [name for name in wanted if _place(name, files).stored not in files]


def _place(name: str, stored: Mapping[str, Path]) -> _Place:
    """Locate a tensor, under its own name or in a fused tensor of transformers.

    In fused tensors, w1 and w3 are the halves of `experts.gate_up_proj`, and w2 is `experts.down_proj`.
    """
    head, marker, tail = name.partition(".experts.")
    if name in stored or not marker:
        return _Place(name)
    expert, matrix, _ = tail.split(".")
    fused, half = {"w1": ("gate_up_proj", 0), "w3": ("gate_up_proj", 1), "w2": ("down_proj", None)}[matrix]
    place = _Place(f"{head}.experts.{fused}", int(expert), half)
    return place if place.stored in stored else _Place(name)


def _read(file: Any, place: _Place) -> NDArray[Any]:
    if place.expert is None:
        return np.asarray(file.get_tensor(place.stored))
    view = file.get_slice(place.stored)
    width = view.get_shape()[1]
    first, last = (0, width) if place.half is None else (place.half * width // 2, (place.half + 1) * width // 2)
    return np.asarray(view[place.expert, first:last])
