"""The compiled kernels: finds the library, checks its version, and calls it. Knows no graph."""

from __future__ import annotations

import ctypes
import hashlib
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.errors import KernelsError

VERSION = 1
"""Of the operators and the packing; LFM_VERSION of kernels/lfm_kernels.h."""
LIBRARY = Path(__file__).with_name("lfm_kernels.so")
PORTABLE = "portable"
"""The instruction set that every CPU has, in plain C: for tests, and slower than onnxruntime."""

Array = npt.NDArray[Any]

SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "lfm_version": (c_int, []),
    "lfm_isa_name": (c_char_p, [c_int]),
    "lfm_isa_runs": (c_int, [c_int]),
    "lfm_packed_bytes": (c_size_t, [c_int64, c_int64, c_int, c_int]),
    "lfm_pack": (
        None,
        [c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int, c_int, c_int, c_int64, c_void_p],
    ),
    "lfm_run_matmul": (
        c_int,
        [c_int, c_void_p, c_int64, c_int64, c_int, c_int, c_void_p, c_int64, c_void_p, c_void_p],
    ),
}


@dataclass(frozen=True, slots=True)
class MatrixFormat:
    """A packed matrix [columns, depth] of `bits` (4 or 8) a weight; without zero points all are 8 or 128."""

    columns: int
    depth: int
    bits: int
    zero_points: bool


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library at `path`. `isas` are the instruction sets that this CPU runs, by their index, best first."""

    path: Path
    isas: dict[str, int]
    _functions: ctypes.CDLL

    @property
    def isa(self) -> str:
        """The instruction set that operators use."""
        return next(iter(self.isas))

    def packed_bytes(self, form: MatrixFormat) -> int:
        return int(self._functions.lfm_packed_bytes(form.columns, form.depth, form.bits, form.zero_points))

    def pack(
        self, form: MatrixFormat, weights: Array, scales: Array, zeros: Array | None, rows: int, block: int, gated: int
    ) -> npt.NDArray[np.uint8]:
        """The packing of a matrix as onnxruntime's operators have it; `scales` are float16.

        `gated` is 1 if its rows are gates and ups in turn, 2 if the gates come first, 0 if it is no such pair.
        """
        out = np.empty(self.packed_bytes(form), np.uint8)
        arrays = [_pointer(array) for array in (weights, scales, zeros)]
        sizes = (rows, form.depth, block, form.bits, form.zero_points, gated, form.columns)
        self._functions.lfm_pack(*arrays, *sizes, _pointer(out))
        return out

    def matmul(self, form: MatrixFormat, packed: Array, x: Array, bias: Array | None = None, isa: str = "") -> Array:
        """x [rows, depth] times the matrix, on one thread; float32 [rows, columns]."""
        y = np.empty((len(x), form.columns), np.float32)
        sizes = (form.columns, form.depth, form.bits, form.zero_points)
        rows = (_pointer(x), len(x), _pointer(bias), _pointer(y))
        if self._functions.lfm_run_matmul(self.isas[isa or self.isa], _pointer(packed), *sizes, *rows):
            raise MemoryError
        return y


@cache
def load_library(path: Path = LIBRARY) -> Library:
    """Load the library. Raises KernelsError if it is missing, cannot be loaded, or is of another version."""
    if not path.exists():
        raise KernelsError("they are not compiled: install a C compiler (apt install gcc) and install lfm-serve again")
    if not _is_whole(path):  # a library that was cut short ends the process that loads it
        raise KernelsError(f"{path} is damaged: install lfm-serve again")
    try:
        functions = ctypes.CDLL(str(path))
        found = functions.lfm_version()
    except (OSError, AttributeError) as error:
        raise KernelsError(f"{path} cannot be loaded: {error}") from error
    if found != VERSION:
        raise KernelsError(f"{path} has version {found}, not {VERSION}: install lfm-serve again")
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    names: list[str] = []
    while (name := functions.lfm_isa_name(len(names))) is not None:
        names.append(name.decode())
    isas = {name: index for index, name in enumerate(names) if functions.lfm_isa_runs(index)}
    return Library(path, isas, functions)


def native_name() -> str:
    """Return the native kernels' name with their instruction set. Raises KernelsError if they cannot be loaded."""
    return f"native {load_library().isa}"


def _is_whole(path: Path) -> bool:
    """Whether the library is the one whose SHA-256 kernels/build.py wrote beside it."""
    try:
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _pointer(array: Array | None) -> int | None:
    if array is None:
        return None
    assert array.flags.c_contiguous
    return int(array.ctypes.data)
