"""Replaces the routers of expert blocks with lfm.Router nodes.

A router computes the logits by which experts are chosen. It begins with the product of the hidden state and a matrix.
In graphs that `server.export.lfm2_graph` builds, this pattern follows:

- The sigmoid of the product is the score of each expert.
- The experts with the largest scores plus bias are chosen.
- Their logits are log(score). The others' are minus infinity.

An lfm.Router replaces the product and, if found, the pattern. It computes each row independently of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.runtime.native.nodes import DOMAIN, attributes_of, needed
from server.runtime.native.tensors import Weights

MINUS_INFINITY = -1e4
"""The limit below which logits count as minus infinity, because float32 rounds their exponentials to 0.

In graphs that were float16, minus infinity is often -65504, the smallest float16.
"""
STEPS = 16
"""The maximum number of nodes between a router's product and the logits."""


@dataclass(frozen=True, slots=True)
class _Product:
    """The product of x [..., hidden] and `weights`.

    transposed: whether `weights` is [experts, hidden] instead of [hidden, experts].
    """

    x: str
    weights: str
    transposed: bool
    output: str


def replace_routers(graph: onnx.GraphProto, weights: Weights) -> None:
    """Replace the routers of all lfm.Experts nodes of a float32 graph, and drop unused nodes."""
    blocks = [node for node in graph.node if (node.domain, node.op_type) == (DOMAIN, "Experts")]
    _Routers(graph, weights).replace(blocks)


class _Routers:
    """The routers of a graph."""

    def __init__(self, graph: onnx.GraphProto, weights: Weights) -> None:
        self._graph, self._weights = graph, weights
        self._producers = {name: node for node in graph.node for name in node.output}

    def replace(self, blocks: list[onnx.NodeProto]) -> None:
        """Replace the routers of `blocks`, and drop unused nodes."""
        made: dict[str, onnx.NodeProto] = {}
        for block in blocks:
            logits, chosen = block.input[1], attributes_of(block)["chosen"]
            if (found := self._pattern(logits, chosen)) is not None:
                product, bias = found
                made[logits] = self._router(product, logits, [bias] if bias else [], chosen)
            if (inner := self._product_before(logits)) is not None:
                made[inner.output] = self._router(inner, inner.output, [], 0)
        nodes = [next((made[name] for name in node.output if name in made), node) for node in self._graph.node]
        del self._graph.node[:]
        self._graph.node.extend(needed(nodes, [value.name for value in self._graph.output]))

    def _router(self, product: _Product, output: str, bias: list[str], chosen: int) -> onnx.NodeProto:
        weights = product.weights
        if not product.transposed:
            weights = f"{product.weights}/transposed"
            if weights not in {tensor.name for tensor in self._graph.initializer}:
                array = np.ascontiguousarray(self._weights.array(product.weights).T)
                self._graph.initializer.append(numpy_helper.from_array(array, weights))
        inputs = [product.x, weights, *bias]
        return helper.make_node("Router", inputs, [output], name=f"{output}/router", domain=DOMAIN, chosen=chosen)

    def _pattern(self, logits: str, chosen: int) -> tuple[_Product, str] | None:
        """Return the product and the bias ("" if none) of the pattern before `logits`.

        The module's docstring describes the pattern. Returns None if the graph lacks it.

        chosen: number of experts that the pattern must choose.
        """
        reshape = self._node(logits, "Reshape")
        scatter = self._node(reshape, "ScatterElements", axis=-1)
        expand, updates = self._node(scatter, "Expand"), self._node(scatter, "Log", 2)
        gather = self._node(updates, "GatherElements", axis=-1)
        if scatter is None or expand is None or gather is None:
            return None
        top = self._producers.get(scatter.input[1])
        scores, sigmoid = gather.input[0], self._node(gather, "Sigmoid")
        if top is None or sigmoid is None or gather.input[1] != scatter.input[1]:
            return None
        is_top = top.op_type == "TopK" and attributes_of(top).get("axis", -1) == -1 and top.output[1] == gather.input[1]
        if not is_top or self._weights.number(top.input[1]) != chosen:
            return None
        bias = self._bias(top.input[0], scores)
        product = self._product(self._producers.get(sigmoid.input[0]))
        if bias is None or product is None or not (self._weights.number(expand.input[0]) or 0) < MINUS_INFINITY:
            return None
        return product, bias

    def _node(
        self, of: onnx.NodeProto | str | None, op: str, index: int = 0, **attributes: Any
    ) -> onnx.NodeProto | None:
        """Return the node that computes a value, or None if it does not match.

        of: name of the value, or a node that reads it as input `index`.
        op: operator that the node must have.
        attributes: attributes that the node must have.
        """
        if of is None:
            return None
        node = self._producers.get(of if isinstance(of, str) else of.input[index])
        if node is None or node.op_type != op or node.domain:
            return None
        given = attributes_of(node)
        return node if all(given.get(name) == value for name, value in attributes.items()) else None

    def _bias(self, ranked: str, scores: str) -> str | None:
        """Return the name of the bias that is added to the scores; "" if there is none.

        Returns None if the bias is not a constant vector.
        """
        if ranked == scores:
            return ""
        add = self._node(ranked, "Add")
        if add is None or scores not in add.input:
            return None
        (bias,) = [name for name in add.input if name != scores] or [""]
        is_vector = self._weights.data_type(bias) == TensorProto.FLOAT and len(self._weights.shape(bias)) == 1
        return bias if is_vector else None

    def _product_before(self, logits: str) -> _Product | None:
        """Return the last product with a matrix before the logits.

        Returns None if the last STEPS nodes contain none.
        """
        waiting = [logits]
        for _ in range(STEPS):
            node = self._producers.get(waiting.pop(0)) if waiting else None
            if (product := self._product(node)) is not None:
                return product
            waiting.extend(node.input if node is not None and node.domain == "" else ())
        return None

    def _product(self, node: onnx.NodeProto | None) -> _Product | None:
        if node is None or len(node.input) < 2 or node.op_type not in ("MatMul", "FusedMatMul"):
            return None
        attributes = attributes_of(node)
        x, weights = node.input[:2]
        if self._weights.data_type(weights) != TensorProto.FLOAT or len(self._weights.shape(weights)) != 2:
            return None
        plain = attributes.get("alpha", 1.0) == 1.0 and not any(
            attributes.get(name) for name in ("transA", "transBatchA", "transBatchB")
        )
        return _Product(x, weights, bool(attributes.get("transB")), node.output[0]) if plain else None
