"""Replaces operators of a graph with operators of the native kernels.

MatMulNBits becomes lfm.MatMul, and QMoE becomes lfm.Experts. Unsupported nodes stay unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from server.runtime.graph import MICROSOFT
from server.runtime.native.library import MatrixFormat
from server.runtime.native.nodes import DOMAIN, attributes_of
from server.runtime.native.tensors import Weights

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
SMALLEST_BLOCK = 32
NEGLIGIBLE = 2.0**-16
"""The largest acceptable error from rounding a scale to float16.

It is relative to the largest scale. An error below 2^-10 of the scale itself is also accepted.
"""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A quantized matrix [rows, depth], or a stack of them.

    weights: name of the initializer with the weights.
    scales: name of the initializer with the scales.
    zeros: name of the initializer with the zero points; "" if there are none.
    form: format of the packed matrix.
    block: number of adjacent weights that share a scale.
    count: number of matrices in the stack.
    gated: 1 if gate rows and up rows alternate, 2 if all gate rows come first, 0 without gates.
    """

    weights: str
    scales: str
    zeros: str
    form: MatrixFormat
    rows: int
    block: int
    count: int = 1
    gated: int = 0

    @property
    def packed_name(self) -> str:
        """The name of the packed initializer, which differs for equal weights with other scales or zero points."""
        return "/".join(filter(None, (self.weights, self.scales, self.zeros, "packed")))


def find_matmul(node: onnx.NodeProto, weights: Weights) -> Matrix | None:
    """Return the matrix of a MatMulNBits; None if the kernels do not support it."""
    if node.domain != MICROSOFT or node.op_type != "MatMulNBits":
        return None
    attributes = attributes_of(node)
    depth, rows, block = attributes["K"], attributes["N"], attributes["block_size"]
    _, packed, scales, zeros, group_index, _ = [*node.input, *[""] * 3][:6]
    if group_index:
        return None
    return _matrix(weights, (packed, scales, zeros), (rows, depth), attributes.get("bits", 4), block)


def find_experts(node: onnx.NodeProto, weights: Weights) -> tuple[Matrix, Matrix] | None:
    """Return the matrices of a QMoE; None if the kernels do not support it.

    The first stack has the gate and up matrices, the second the down matrices.
    """
    if node.domain != MICROSOFT or node.op_type != "QMoE" or not _is_plain_swiglu(attributes := attributes_of(node)):
        return None
    names = [*node.input, *[""] * 15][:15]
    _, _, up, up_scales, up_bias, down, down_scales, down_bias, *third, up_zeros, down_zeros, _, _ = names
    if any((*third, names[14])) or up_scales not in weights or down_scales not in weights:
        return None
    if any(weights.data_type(bias) not in FLOATS for bias in (up_bias, down_bias) if bias):
        return None
    bits, block = attributes.get("expert_weight_bits", 4), attributes.get("block_size", 0)
    if len(weights.shape(up_scales)) != 3 or len(weights.shape(down_scales)) != 3:
        return None
    count, up_rows, _ = weights.shape(up_scales)
    _, hidden, _ = weights.shape(down_scales)
    inner, gated = up_rows // 2, attributes["swiglu_fusion"]
    found_up = _matrix(weights, (up, up_scales, up_zeros), (up_rows, hidden), bits, block, count, gated)
    found_down = _matrix(weights, (down, down_scales, down_zeros), (hidden, inner), bits, block, count)
    return None if found_up is None or found_down is None else (found_up, found_down)


def replace_matrices(graph: onnx.GraphProto, weights: Weights) -> list[Matrix]:
    """Replace the products that the kernels support, in place. The new nodes compute in float32.

    Returns the matrices to pack. The graph refers to their `packed_name`.
    """
    matrices: dict[str, Matrix] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if (matrix := find_matmul(node, weights)) is not None:
            matrices[matrix.packed_name] = matrix
            nodes.append(_matmul(node, matrix))
        elif (pair := find_experts(node, weights)) is not None:
            matrices |= {matrix.packed_name: matrix for matrix in pair}
            nodes.append(_experts(node, *pair))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return list(matrices.values())


def _is_plain_swiglu(attributes: dict[str, Any]) -> bool:
    """Return whether a QMoE computes silu(gate) * up with normalized routing weights."""
    return (
        attributes.get("activation_type") == b"swiglu"
        and attributes.get("swiglu_fusion") in (1, 2)
        and attributes.get("activation_alpha", 1.0) == 1.0
        and attributes.get("activation_beta", 0.0) == 0.0
        and not np.isfinite(attributes.get("swiglu_limit", np.inf))
        and attributes.get("normalize_routing_weights") == 1
        and not attributes.get("use_sparse_mixer")
    )


def _matrix(
    weights: Weights,
    names: tuple[str, str, str],
    shape: tuple[int, int],
    bits: int,
    block: int,
    count: int = 1,
    gated: int = 0,
) -> Matrix | None:
    """Return the matrix in these initializers, or None if it is not supported."""
    packed, scales, zeros = names
    (rows, depth), centre = shape, 1 << bits - 1
    if packed not in weights or bits not in (4, 8) or block < SMALLEST_BLOCK or block % SMALLEST_BLOCK:
        return None
    blocks = -(-depth // block)
    if weights.data_type(packed) != TensorProto.UINT8 or weights.data_type(scales) not in FLOATS:
        return None
    if np.prod(weights.shape(packed)) != count * rows * blocks * block * bits // 8:
        return None
    if np.prod(weights.shape(scales)) != count * rows * blocks or not _fit_float16(weights.array(scales)):
        return None
    has_zeros = False
    if zeros:
        if weights.data_type(zeros) != TensorProto.UINT8:
            return None
        if np.prod(weights.shape(zeros)) != count * rows * -(-blocks * bits // 8):
            return None
        has_zeros = not _all_zeros_are(centre, weights.array(zeros), bits, blocks)
    columns = -(-rows // 64) * 64 if gated else rows
    return Matrix(packed, scales, zeros, MatrixFormat(columns, depth, bits, has_zeros), rows, block, count, gated)


def _fit_float16(scales: np.ndarray[Any, Any]) -> bool:
    with np.errstate(over="ignore"):
        error = np.abs(scales.astype(np.float16).astype(np.float32) - scales)
    size = np.abs(scales)
    return bool(np.all(error <= np.maximum(size * 2.0**-10, size.max(initial=0) * NEGLIGIBLE)))


def _all_zeros_are(centre: int, zeros: np.ndarray[Any, Any], bits: int, blocks: int) -> bool:
    if bits == 8:
        return bool((zeros == centre).all())
    rows = zeros.reshape(-1, -(-blocks // 2))
    if blocks % 2:  # the high half of the last byte is padding
        return bool((rows[:, :-1] == centre * 17).all() and (rows[:, -1] & 15 == centre).all())
    return bool((rows == centre * 17).all())


def _matmul(node: onnx.NodeProto, matrix: Matrix) -> onnx.NodeProto:
    form = matrix.form
    sizes: dict[str, Any] = {
        "columns": form.columns,
        "depth": form.depth,
        "bits": form.bits,
        "zero_points": int(form.zero_points),
    }
    inputs = [node.input[0], matrix.packed_name]
    if len(node.input) > 5 and node.input[5]:
        inputs.append(node.input[5])
    return helper.make_node("MatMul", inputs, node.output, name=node.name, domain=DOMAIN, **sizes)


def _experts(node: onnx.NodeProto, up: Matrix, down: Matrix) -> onnx.NodeProto:
    sizes: dict[str, Any] = {
        "experts": up.count,
        "chosen": attributes_of(node).get("k", 1),
        "hidden": down.rows,
        "inner": down.form.depth,
        "bits": up.form.bits,
        "up_zero_points": int(up.form.zero_points),
        "down_zero_points": int(down.form.zero_points),
        "gated": up.gated,
    }
    up_bias, down_bias = ([*node.input, *[""] * 8][index] for index in (4, 7))
    inputs = [*node.input[:2], up.packed_name, down.packed_name, up_bias, down_bias]
    while not inputs[-1]:
        inputs.pop()
    return helper.make_node("Experts", inputs, node.output, name=node.name, domain=DOMAIN, **sizes)
