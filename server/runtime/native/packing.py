"""Packs the weights of graphs for the native kernels.

Packed weights stay in memory, or go to one page-aligned file that sessions map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import TensorProto, helper

from server.errors import PreparationError
from server.runtime.graph import Graph
from server.runtime.machine.mapped_file import HUGE_PAGE
from server.runtime.native.convolution import replace_convolutions
from server.runtime.native.library import Library
from server.runtime.native.nodes import DOMAIN, values_read
from server.runtime.native.operators import Matrix, replace_matrices
from server.runtime.native.router import replace_routers
from server.runtime.native.tail import shorten_tail
from server.runtime.native.tensors import Array, Weights
from server.runtime.native.widening import widen

PAGE = 4096
INLINE_BYTES = 4096
"""The size, in bytes, up to which an initializer stays in the graph."""
SAMPLED_COLUMNS = 16
TOLERANCE = 1e-5
"""The largest error of a sampled product, from rounding float32 sums.

It is relative to the sum of the absolute values of the terms.
"""

Progress = Callable[[int], None]


def pack_in_memory(graph: Graph, library: Library) -> Graph:
    """Return a copy of `graph` that contains its packed weights, for small models."""
    model, weights, matrices = _rewritten(graph, library)
    for matrix in matrices:
        packed = np.concatenate(list(_packed(matrix, weights, library)))
        model.graph.initializer.append(
            TensorProto(
                name=matrix.packed_name, data_type=TensorProto.UINT8, dims=packed.shape, raw_data=packed.tobytes()
            )
        )
    return replace(graph, model=model.SerializeToString(deterministic=True))


def pack_into(
    graph: Graph, target: Path, weights_name: str, library: Library, threads: int, progress: Progress
) -> bytes:
    """Write the weights of `graph` into one file, packed if native kernels use them.

    Returns the serialized graph that refers to this file, `target` / `weights_name`.

    progress: receives the number of bytes written so far.

    Raises PreparationError if a sample of the weights differs from the original.
    """
    model, weights, matrices = _rewritten(graph, library)
    unpacked = Weights(model.graph, graph.weights)  # the rewrite also adds some, such as transposed routers
    with (target / weights_name).open("wb", buffering=HUGE_PAGE) as file:
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL or tensor.ByteSize() > INLINE_BYTES:
                _write(file, tensor, weights_name, iter([unpacked.stored(tensor.name)]))
                progress(file.tell())
        for matrix in matrices:
            size = matrix.count * library.packed_bytes(matrix.form)
            tensor = TensorProto(name=matrix.packed_name, data_type=TensorProto.UINT8, dims=[size])
            with ThreadPoolExecutor(threads) as pool:
                _write(file, tensor, weights_name, _packed(matrix, weights, library, pool))
            model.graph.initializer.append(tensor)
            progress(file.tell())
    written = Weights(model.graph, target)
    for matrix in matrices:
        _check(matrix, weights, written.array(matrix.packed_name), library)
    return bytes(model.SerializeToString(deterministic=True))


def _rewritten(graph: Graph, library: Library) -> tuple[onnx.ModelProto, Weights, list[Matrix]]:
    """Return the model without its matrices, the original weights, and the matrices to pack."""
    model = onnx.load_from_string(graph.model)
    if model.functions:  # the rewrites below do not look inside them
        model = onnx.inliner.inline_local_functions(model)
    weights = Weights(model.graph, graph.weights)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    matrices = replace_matrices(model.graph, weights)
    _drop_unused(model.graph)
    widen(model.graph, weights)
    wide = Weights(model.graph, graph.weights)
    replace_routers(model.graph, wide)
    replace_convolutions(model, wide, library)
    shorten_tail(model.graph, wide, [matrix.packed_name for matrix in matrices])
    _drop_unused(model.graph)
    return model, weights, matrices


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in values_read(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _packed(
    matrix: Matrix, weights: Weights, library: Library, pool: ThreadPoolExecutor | None = None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield each packed matrix of a stack."""

    def pack(index: int) -> npt.NDArray[np.uint8]:
        values, scales, zeros = _source(matrix, weights, index)
        return library.pack(matrix.form, values, scales, zeros, matrix.rows, matrix.block, matrix.gated)

    return (pool.map if pool else map)(pack, range(matrix.count))


def _source(matrix: Matrix, weights: Weights, index: int) -> tuple[Array, Array, Array | None]:
    """Return the values, float16 scales and zero points of one matrix of a stack.

    The zero points are None if the packed format has none.
    """

    def part(name: str) -> Array:
        stack: Array = weights.array(name).reshape(matrix.count, -1)
        return np.ascontiguousarray(stack[index])

    with np.errstate(over="ignore"):
        scales = part(matrix.scales).astype(np.float16)
    return part(matrix.weights), scales, part(matrix.zeros) if matrix.form.zero_points else None


def _write(file: BinaryIO, tensor: TensorProto, location: str, parts: Iterator[Array]) -> None:
    """Append a tensor's data to the file, and make the tensor refer to it."""
    file.write(bytes(-file.tell() % PAGE))
    start = file.tell()
    for part in parts:
        _append(file, np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    tensor.ClearField("raw_data")
    for field in ("float_data", "int32_data", "int64_data"):
        tensor.ClearField(field)
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", start), ("length", file.tell() - start)):
        tensor.external_data.add(key=key, value=str(value))


def _append(file: BinaryIO, data: memoryview) -> None:
    """Write `data` in pieces that end at multiples of HUGE_PAGE.

    With a buffer of this size, the file is written in whole huge pages. The system then caches it in huge pages, which
    a server maps and locks within milliseconds.
    """
    begin, end = 0, -file.tell() % HUGE_PAGE
    while begin < len(data):
        file.write(data[begin:end])
        begin, end = end, end + HUGE_PAGE


def _check(matrix: Matrix, weights: Weights, packed: Array, library: Library) -> None:
    """Compare sampled rows of each packed matrix with the dequantized original.

    Raises PreparationError if a row differs.
    """
    rng = np.random.default_rng(len(packed))
    form = matrix.form
    panels = -(-form.columns // SAMPLED_COLUMNS)
    for index, one in enumerate(packed.reshape(matrix.count, panels, -1)):
        panel = int(rng.integers(panels))
        x = rng.integers(-127, 128, (1, form.depth)).astype(np.float32)
        x[:, ::32] = 127  # rounding these activations to int8 does not change them
        sample = replace(form, columns=SAMPLED_COLUMNS)
        found = library.matmul(sample, np.ascontiguousarray(one[panel]), x)[0].astype(np.float64)
        expected, size = np.zeros(SAMPLED_COLUMNS), np.zeros(SAMPLED_COLUMNS)
        for column, row in enumerate(_rows_of(matrix, panel)):
            if row is not None:
                dense = _dequantized(matrix, weights, index, row)
                expected[column], size[column] = x[0] @ dense, np.abs(x[0]) @ np.abs(dense)
        if not np.all(np.abs(found - expected) <= TOLERANCE * size):
            raise PreparationError(f"The packed weights of {matrix.weights} differ from the original.")


def _rows_of(matrix: Matrix, panel: int) -> Iterator[int | None]:
    """Yield the index of the original row that each column of a panel holds.

    A panel is SAMPLED_COLUMNS adjacent columns of a packed matrix. Yields None for columns of padding.
    """
    for column in range(SAMPLED_COLUMNS):
        row = panel * SAMPLED_COLUMNS + column
        if matrix.gated:
            inner, up = panel * 8 + column % 8, column // 8
            row = 2 * inner + up if matrix.gated == 1 else inner + up * (matrix.rows // 2)
            yield row if inner < matrix.rows // 2 else None
        else:
            yield row if row < matrix.rows else None


def _dequantized(matrix: Matrix, weights: Weights, index: int, row: int) -> npt.NDArray[np.float64]:
    """Return an original row [depth] in float64, with scales rounded to float16."""
    form = matrix.form

    def part(name: str) -> Array:
        stack: Array = weights.array(name).reshape(matrix.count, matrix.rows, -1)
        return np.asarray(stack[index, row])

    values, scales = part(matrix.weights), part(matrix.scales).astype(np.float16).astype(np.float64)
    zeros = np.full(len(scales), 1 << form.bits - 1, np.uint8)
    if matrix.zeros:
        zeros = _unpacked(part(matrix.zeros), form.bits)[: len(scales)]
    centred = _unpacked(values, form.bits).astype(np.float64) - np.repeat(zeros.astype(np.float64), matrix.block)
    return (centred * np.repeat(scales, matrix.block))[: form.depth]


def _unpacked(values: Array, bits: int) -> Array:
    return values if bits == 8 else np.stack([values & 15, values >> 4], axis=-1).reshape(-1)
