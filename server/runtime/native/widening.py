"""Makes float16 graphs compute in float32, like the native kernels.

onnxruntime has few float16 operators for CPUs. It would cast before and after most of the other nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.runtime.native.nodes import subgraphs, values_read
from server.runtime.native.tensors import Array, Weights

TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""The attributes that name the type of a node's result."""
FLOAT_OPERATORS = frozenset(
    {"SimplifiedLayerNormalization", "Experts", "FusedMatMul", "MatMulNBits", "GatherBlockQuantized"}
    | {"GroupQueryAttention", "SkipSimplifiedLayerNormalization"}
)
"""The operators whose results are always float32 in a wide graph."""
SAME_TYPE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "MatMul", "ReduceMean", "ReduceSum", "Transpose", "Reshape", "Expand"}
    | {"Unsqueeze", "Squeeze", "Concat", "Split", "Slice", "Gather", "GatherElements", "TopK", "Identity"}
    | {"Sigmoid", "Softmax", "Log", "Exp", "Sqrt"}
)
"""The operators whose results have the type of the first input. TopK also returns positions."""


def widen(graph: onnx.GraphProto, weights: Weights) -> None:
    """Replace float16 by float32 in a graph, in place.

    Tables that only Gather reads stay float16, and the gathered rows are cast.
    """
    tables = _tables(graph)
    for one in (graph, *subgraphs(graph.node)):
        del one.value_info[:]
        for value in (*one.input, *one.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for tensor in one.initializer:
            if tensor.data_type == TensorProto.FLOAT16 and (one is not graph or tensor.name not in tables):
                _widen_tensor(tensor, weights.array(tensor.name) if one is graph else numpy_helper.to_array(tensor))
        for node in one.node:
            _widen_attributes(node)
    nodes = [made for node in graph.node for made in _with_cast(node, tables)]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_needless_casts(graph)


def added_bytes(graph: onnx.GraphProto) -> int:
    """Return the largest number of bytes that `widen` adds to the initializers of a graph."""
    halves = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16]
    return sum(2 * math.prod(tensor.dims) for tensor in halves)


def _tables(graph: onnx.GraphProto) -> set[str]:
    """Return the names of constant float16 initializers that only Gather reads."""
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    gathers = [node for node in graph.node if node.op_type == "Gather"]
    others = {name for node in graph.node if node.op_type != "Gather" for name in values_read(node)}
    visible = {value.name for value in (*graph.input, *graph.output)}
    return (halves & {node.input[0] for node in gathers}) - others - visible


def _widen_tensor(tensor: TensorProto, array: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))


def _widen_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in TYPE_ATTRIBUTES and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.t.data_type == TensorProto.FLOAT16:
            _widen_tensor(attribute.t, numpy_helper.to_array(attribute.t))


def _with_cast(node: onnx.NodeProto, tables: set[str]) -> Iterator[onnx.NodeProto]:
    """Yield `node`, followed by a cast of its result if it reads a table."""
    if node.op_type == "Gather" and node.input[0] in tables:
        (rows,) = node.output
        node.output[0] = f"{rows}/float16"
        yield node
        yield helper.make_node("Cast", node.output, [rows], name=f"{rows}/cast", to=TensorProto.FLOAT)
    else:
        yield node


def _drop_needless_casts(graph: onnx.GraphProto) -> None:
    """Drop casts of float32 to float32, so that the patterns of routers and convolutions can be found."""
    known = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    floats = {name for name, data_type in known.items() if data_type == TensorProto.FLOAT}
    results = {value.name for value in graph.output}
    inner = {name for one in subgraphs(graph.node) for node in one.node for name in node.input}
    sources: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        node.input[:] = [sources.get(name, name) for name in node.input]
        first = node.input[0] if node.input else ""
        to_float = node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT
        if to_float and first in floats and node.output[0] not in results | inner:
            sources[node.output[0]] = first
            continue
        if to_float or node.op_type in FLOAT_OPERATORS or (node.op_type in SAME_TYPE and first in floats):
            floats.update(node.output[:1] if node.op_type == "TopK" else node.output)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
