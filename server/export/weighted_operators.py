"""Adds the operators that have large weights, in float32 or int4.

Values between operators are float32. `x` is [batch, length, features]. Matrices are [out, in].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from server.export.graph_builder import MICROSOFT, GraphBuilder
from server.export.int4 import BLOCK, FloatArray, Int4
from server.export.sources import TensorSource

SWIGLU: dict[str, Any] = {
    "activation_type": "swiglu",
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
    "swiglu_fusion": 1,
    "normalize_routing_weights": 1,
}
"""The attributes that make MoE and QMoE compute silu(gate) * up.

The operators expect alternating rows of gate and up. They scale the chosen experts' weights to a sum of 1.
"""


class Layers(Protocol):
    """The interface for adding operators with weights to a graph.

    Weights are identified by their names in the checkpoint. Methods return the name of the new value.
    """

    def exact(self, name: str) -> str:
        """Add a small weight, such as a norm, bias or router, in float32."""

    def embed(self, ids: str, name: str) -> str:
        """Add a lookup of rows in the matrix `name`.

        ids: name of the row indices, int64 [batch, length].
        """

    def linear(self, x: str, name: str, out: str | None = None) -> str:
        """Add the product of `x` and the transposed matrix `name`.

        out: name of the product; None generates a name.
        """

    def experts(self, x: str, routing: str, name: str, count: int, top_k: int) -> str:
        """Add `count` SwiGLU experts. Each token uses `top_k` of them.

        routing: name of the routing values [tokens, count].
        name: prefix of the weights: `<name>.<i>.w1.weight` is the gate, `w3` up, `w2` down.
        """


class Float32Layers:
    """Layers with float32 weights.

    With `store_fp16`, matrices are stored as float16. A runtime casts them to float32 once, when it loads the
    graph.
    """

    def __init__(self, graph: GraphBuilder, source: TensorSource, store_fp16: bool) -> None:
        self._graph, self._source, self._store_fp16 = graph, source, store_fp16
        self._matrices: dict[str, str] = {}

    def exact(self, name: str) -> str:
        return self._graph.weight(name, self._source.float32(name))

    def embed(self, ids: str, name: str) -> str:
        return self._graph.node("Gather", self._matrix(name), ids)

    def linear(self, x: str, name: str, out: str | None = None) -> str:
        return self._graph.node("FusedMatMul", x, self._matrix(name), out=out, domain=MICROSOFT, transB=1)

    def experts(self, x: str, routing: str, name: str, count: int, top_k: int) -> str:
        def read(expert: int, matrix: str) -> FloatArray:
            return self._source.float32(f"{name}.{expert}.{matrix}.weight")

        gate_up = self._store(
            f"{name}.gate_up", np.stack([_alternate([read(i, "w1"), read(i, "w3")]) for i in range(count)])
        )
        down = self._store(f"{name}.down", np.stack([read(i, "w2") for i in range(count)]))
        return self._graph.node("MoE", x, routing, gate_up, "", down, domain=MICROSOFT, k=top_k, **SWIGLU)

    def _matrix(self, name: str) -> str:
        if name not in self._matrices:
            self._matrices[name] = self._store(name, self._source.float32(name))
        return self._matrices[name]

    def _store(self, name: str, array: FloatArray) -> str:
        if not self._store_fp16:
            return self._graph.weight(name, array)
        return self._graph.node("Cast", self._graph.weight(name, array.astype(np.float16)), to=TensorProto.FLOAT)


class Int4Layers:
    """Layers with int4 matrices, quantized in blocks along the input axis.

    Small weights stay float32.
    """

    def __init__(self, graph: GraphBuilder, source: TensorSource) -> None:
        self._graph, self._source = graph, source
        self._embeddings: dict[str, tuple[str, str, str]] = {}

    def exact(self, name: str) -> str:
        return self._graph.weight(name, self._source.float32(name))

    def embed(self, ids: str, name: str) -> str:
        # Kept for `linear`: a tied head is the same matrix.
        packed, scales, zero_points = self._embeddings[name] = self._store(name, self._source.int4(name))
        axes: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1}
        inputs = (packed, ids, scales, zero_points)
        return self._graph.node("GatherBlockQuantized", *inputs, domain=MICROSOFT, bits=4, block_size=BLOCK, **axes)

    def linear(self, x: str, name: str, out: str | None = None) -> str:
        rows, columns = self._source.shape(name)
        blocks = (rows, columns // BLOCK, BLOCK // 2)
        if name in self._embeddings:
            packed, scales, zero_points = self._embeddings[name]
            packed = self._graph.view(f"{name}.blocks", packed, blocks)
        else:
            packed, scales, zero_points = self._store(name, self._source.int4(name), blocks)
        sizes: dict[str, Any] = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK}
        return self._graph.node("MatMulNBits", x, packed, scales, zero_points, out=out, domain=MICROSOFT, **sizes)

    def experts(self, x: str, routing: str, name: str, count: int, top_k: int) -> str:
        def read(expert: int, matrix: str) -> Int4:
            return self._source.int4(f"{name}.{expert}.{matrix}.weight")

        gate_up = [_combine([read(i, "w1"), read(i, "w3")], _alternate) for i in range(count)]
        up, up_scales, up_zeros = self._store(f"{name}.gate_up", _combine(gate_up, np.stack))
        down_parts = [read(i, "w2") for i in range(count)]
        down, down_scales, down_zeros = self._store(f"{name}.down", _combine(down_parts, np.stack))
        no_bias, no_third = "", ("", "", "")
        inputs = (x, routing, up, up_scales, no_bias, down, down_scales, no_bias, *no_third, up_zeros, down_zeros)
        bits: dict[str, Any] = {"expert_weight_bits": 4, "block_size": BLOCK}
        return self._graph.node("QMoE", *inputs, domain=MICROSOFT, k=top_k, **bits, **SWIGLU)

    def _store(self, name: str, matrix: Int4, packed_shape: tuple[int, ...] | None = None) -> tuple[str, str, str]:
        packed = matrix.packed if packed_shape is None else matrix.packed.reshape(packed_shape)
        return (
            self._graph.weight(f"{name}.packed", packed),
            self._graph.weight(f"{name}.scales", matrix.scales),
            self._graph.weight(f"{name}.zero_points", matrix.zero_points),
        )


def _alternate(gate_and_up: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Interleave the rows of two matrices: g0, u0, g1, u1, ..."""
    gate, up = gate_and_up
    return np.stack([gate, up], axis=1).reshape(2 * len(gate), -1)


def _combine(parts: Sequence[Int4], how: Callable[[Sequence[NDArray[Any]]], NDArray[Any]]) -> Int4:
    """Combine int4 tensors into one.

    how: combines a list of arrays, such as `np.stack`.
    """
    return Int4(
        packed=how([part.packed for part in parts]),
        scales=how([part.scales for part in parts]),
        zero_points=how([part.zero_points for part in parts]),
    )
