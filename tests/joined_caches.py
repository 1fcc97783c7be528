"""Rewrites attention as most public exports have it: past and new keys and values joined, in plain operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

HIDDEN = -1e9


def join_caches(model: onnx.ModelProto) -> None:
    """Replace each GroupQueryAttention; the graph needs an input `position_ids`."""
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "GroupQueryAttention":
            nodes.extend(_attention(graph, node))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _attention(graph: onnx.GraphProto, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    query, key, value, past_key, past_value, _, _, cosines, sines, positions = node.input
    attended, present_key, present_value = node.output
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    heads, kv_heads = attributes["num_heads"], attributes["kv_num_heads"]

    def name(part: str) -> str:
        return f"{attended}/{part}"

    def make(op: str, inputs: list[str], part: str, **options: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [part if part in node.output else name(part)], **options)

    def constant(value: Any, dtype: Any = np.int64) -> str:
        tensor = numpy_helper.from_array(np.array(value, dtype), name(f"constant/{len(graph.initializer)}"))
        graph.initializer.append(tensor)
        return tensor.name

    for part, source, count in (("q", query, heads), ("k", key, kv_heads)):
        tables = [source, positions, cosines, sines]
        yield make("RotaryEmbedding", tables, f"{part}/turned", domain="com.microsoft", num_heads=count)
    # Queries [batch, kv_heads, queries per head, length, head_dim], keys and values with one query per head.
    for part, source, groups in (("q", name("q/turned"), kv_heads), ("k", name("k/turned"), 0), ("v", value, 0)):
        shape = [0, 0, groups, heads // kv_heads, -1] if groups else [0, 0, kv_heads, -1]
        yield make("Reshape", [source, constant(shape)], f"{part}/heads")
        yield make("Transpose", [name(f"{part}/heads")], part, perm=[0, 2, 3, 1, 4] if groups else [0, 2, 1, 3])
    for part, past, present in (("k", past_key, present_key), ("v", past_value, present_value)):
        yield make("Concat", [past, name(part)], present, axis=2)
        yield make("Unsqueeze", [present, constant([2])], f"{part}/all")
    yield make("Transpose", [name("k/all")], "k/columns", perm=[0, 1, 2, 4, 3])
    yield make("MatMul", [name("q"), name("k/columns")], "scores")
    yield make("Mul", [name("scores"), constant(attributes["scale"], np.float32)], "scaled")
    # A query sees the positions up to its own that the attention mask does not hide.
    for part, source, axis in (("past", past_key, 2), ("total", present_key, 2), ("new", "input_ids", 1)):
        yield make("Shape", [source], f"{part}/length", start=axis, end=axis + 1)
        yield make("Squeeze", [name(f"{part}/length")], f"{part}/count")
    for part, end in (("columns", "total"), ("rows", "new")):
        yield make("Range", [constant(0), name(f"{end}/count"), constant(1)], part)
    yield make("Add", [name("rows"), name("past/count")], "own")
    yield make("Unsqueeze", [name("own"), constant([1])], "own/column")
    yield make("LessOrEqual", [name("columns"), name("own/column")], "causal")
    yield make("Cast", ["attention_mask"], "mask", to=onnx.TensorProto.BOOL)
    yield make("Unsqueeze", [name("mask"), constant([1, 2, 3])], "mask/all")
    yield make("And", [name("causal"), name("mask/all")], "seen")
    yield make("Where", [name("seen"), name("scaled"), constant(HIDDEN, np.float32)], "masked")
    yield make("Softmax", [name("masked")], "weights", axis=-1)
    yield make("MatMul", [name("weights"), name("v/all")], "mixed")
    yield make("Transpose", [name("mixed")], "mixed/rows", perm=[0, 3, 1, 2, 4])
    yield make("Reshape", [name("mixed/rows"), constant([0, 0, -1])], attended)
