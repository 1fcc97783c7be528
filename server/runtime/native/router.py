"""Replaces the routers of expert blocks with lfm.Router nodes.

An lfm.Router replaces the product and, if found, the pattern (see `server.runtime.native.router_pattern`). It computes
each row independently of the batch.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from server.runtime.native.nodes import DOMAIN, attributes_of, needed
from server.runtime.native.router_pattern import Product, RouterFinder
from server.runtime.native.tensors import Weights


def replace_routers(graph: onnx.GraphProto, weights: Weights) -> None:
    """Replace the routers of all lfm.Experts nodes of a float32 graph, and drop unused nodes."""
    blocks = [node for node in graph.node if (node.domain, node.op_type) == (DOMAIN, "Experts")]
    _Routers(graph, weights).replace(blocks)


class _Routers:
    """The routers of a graph."""

    def __init__(self, graph: onnx.GraphProto, weights: Weights) -> None:
        self._graph, self._weights = graph, weights
        self._finder = RouterFinder(graph, weights)

    def replace(self, blocks: list[onnx.NodeProto]) -> None:
        """Replace the routers of `blocks`, and drop unused nodes."""
        made: dict[str, list[onnx.NodeProto]] = {}  # by the name of the value whose producer they replace
        renamed: dict[str, str] = {}
        for block in blocks:
            logits, count = block.input[1], attributes_of(block)["chosen"]
            if (found := self._finder.pattern(logits, count)) is not None:
                router = self._router(found.product, logits, [found.bias] if found.bias else [], count)
                made |= {found.chosen.output[0]: [router, found.chosen], logits: []}
                if (scale := self._finder.scale(found)) is not None:
                    made[scale.total.output[0]] = self._total(logits, scale.total)
                    renamed[scale.result] = scale.share
            if (inner := self._finder.product_before(logits)) is not None:
                made[inner.output] = [self._router(inner, inner.output, [], 0)]
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = renamed.get(name, name)
            nodes += next((made[name] for name in node.output if name in made), [node])
        del self._graph.node[:]
        self._graph.node.extend(needed(nodes, [value.name for value in self._graph.output]))

    def _total(self, logits: str, total: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return nodes that add up the scores of the chosen experts, from the logits of an lfm.Router."""
        scores, axes = f"{logits}/scores", f"{logits}/last axis"
        self._graph.initializer.append(numpy_helper.from_array(np.array([-1]), axes))
        return [
            helper.make_node("Exp", [logits], [scores], name=f"{scores}/exp"),
            helper.make_node("ReduceSum", [scores, axes], total.output, name=f"{scores}/sum", keepdims=1),
        ]

    def _router(self, product: Product, output: str, bias: list[str], chosen: int) -> onnx.NodeProto:
        weights = product.weights
        if not product.transposed:
            weights = f"{product.weights}/transposed"
            if weights not in {tensor.name for tensor in self._graph.initializer}:
                array = np.ascontiguousarray(self._weights.array(product.weights).T)
                self._graph.initializer.append(numpy_helper.from_array(array, weights))
        inputs = [product.x, weights, *bias]
        return helper.make_node("Router", inputs, [output], name=f"{output}/router", domain=DOMAIN, chosen=chosen)
