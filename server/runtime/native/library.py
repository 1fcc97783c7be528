"""Finds the library of compiled kernels, checks its version, and calls it."""

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

VERSION = 4
"""The version of operators, packing and rewritten graphs: LFM_VERSION in kernels/lfm_kernels.h."""
LIBRARY = Path(__file__).with_name("lfm_kernels.so")
PORTABLE = "portable"
"""The name of the plain C kernels, which run on every CPU.

They are slower than onnxruntime's kernels and exist for tests.
"""

Array = npt.NDArray[Any]


class ArrayPointer:
    """A parameter type for C functions: accepts a contiguous array, or None for NULL."""

    @classmethod
    def from_param(cls, array: Array | None) -> c_void_p:
        if array is None:
            return c_void_p(None)
        assert array.flags.c_contiguous
        return c_void_p(array.ctypes.data)


SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "lfm_version": (c_int, []),
    "lfm_isa_name": (c_char_p, [c_int]),
    "lfm_isa_runs": (c_int, [c_int]),
    "lfm_packed_bytes": (c_size_t, [c_int64, c_int64, c_int, c_int]),
    "lfm_pack": (
        None,
        [
            ArrayPointer,
            ArrayPointer,
            ArrayPointer,
            c_int64,
            c_int64,
            c_int64,
            c_int,
            c_int,
            c_int,
            c_int64,
            ArrayPointer,
        ],
    ),
    "lfm_run_matmul": (
        c_int,
        [c_int, ArrayPointer, c_int64, c_int64, c_int, c_int, ArrayPointer, c_int64, ArrayPointer, ArrayPointer],
    ),
}


@dataclass(frozen=True, slots=True)
class MatrixFormat:
    """The format of a packed matrix, which turns x [n, depth] into [n, columns].

    The graph stores the matrix transposed, as [columns, depth].

    columns: any number, but a multiple of 64 if the matrix computes the gates and ups of experts.
    bits: 4 or 8.
    zero_points: whether zero points are stored. If not, all are 8 (4 bits) or 128 (8 bits).
    """

    columns: int
    depth: int
    bits: int
    zero_points: bool


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library of native kernels.

    isas: the library's number for each instruction set that this CPU supports, by name, the best one first.
    functions: the library's functions, which accept numpy arrays as pointers.
    """

    path: Path
    isas: dict[str, int]
    functions: ctypes.CDLL

    @property
    def isa(self) -> str:
        """The instruction set that the operators use."""
        return next(iter(self.isas))

    def packed_bytes(self, form: MatrixFormat) -> int:
        return int(self.functions.lfm_packed_bytes(form.columns, form.depth, form.bits, form.zero_points))

    def pack(
        self, form: MatrixFormat, weights: Array, scales: Array, zeros: Array | None, rows: int, block: int, gated: int
    ) -> npt.NDArray[np.uint8]:
        """Pack a matrix of a MatMulNBits or QMoE for the native kernels.

        scales: float16.
        zeros: None if the format has no zero points.
        rows, block, gated: see `operators.Matrix`.
        """
        out = np.empty(self.packed_bytes(form), np.uint8)
        sizes = (rows, form.depth, block, form.bits, form.zero_points, gated, form.columns)
        self.functions.lfm_pack(weights, scales, zeros, *sizes, out)
        return out

    def matmul(self, form: MatrixFormat, packed: Array, x: Array, bias: Array | None = None, isa: str = "") -> Array:
        """Multiply x [n, depth] by a packed matrix, on one thread.

        isa: instruction set to use; "" for the best one.

        Returns float32 [n, columns].
        """
        y = np.empty((len(x), form.columns), np.float32)
        sizes = (form.columns, form.depth, form.bits, form.zero_points)
        if self.functions.lfm_run_matmul(self.isas[isa or self.isa], packed, *sizes, x, len(x), bias, y):
            raise MemoryError
        return y


@cache
def load_library(path: Path = LIBRARY) -> Library:
    """Load the library.

    Raises KernelsError if it is missing, is damaged or does not have version VERSION.
    """
    if not path.exists():
        raise KernelsError("the library is not compiled. Install a C compiler (apt install gcc) and lfm-serve again")
    if not _is_whole(path):  # loading a truncated library would crash the process
        raise KernelsError(f"{path} is damaged. Install lfm-serve again")
    try:
        functions = ctypes.CDLL(str(path))
        found = functions.lfm_version()
    except (OSError, AttributeError) as error:
        raise KernelsError(f"{path} cannot be loaded: {error}") from error
    if found != VERSION:
        raise KernelsError(f"{path} has version {found} instead of {VERSION}. Install lfm-serve again")
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    names: list[str] = []
    while (name := functions.lfm_isa_name(len(names))) is not None:
        names.append(name.decode())
    isas = {name: index for index, name in enumerate(names) if functions.lfm_isa_runs(index)}
    return Library(path, isas, functions)


def native_name() -> str:
    """Return the native kernels' name and instruction set, such as "native avx2".

    Raises KernelsError if the library cannot be loaded.
    """
    return f"native {load_library().isa}"


def _is_whole(path: Path) -> bool:
    """Return whether the library has the SHA-256 that kernels/build.py recorded."""
    try:
        return path.with_suffix(".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False
