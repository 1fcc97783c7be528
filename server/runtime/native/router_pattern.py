"""Finds the routers of expert blocks in a graph.

A router computes the logits by which experts are chosen. It begins with the product of the hidden state and a matrix.
In graphs that `server.export.lfm2_graph` builds, this pattern follows:

- The sigmoid of the product is the score of each expert.
- The experts with the largest scores plus bias are chosen.
- Their logits are log(score). The others' are minus infinity.

onnxruntime-genai's builder writes the same in other operators. It also multiplies the experts' result by
total / (total + 1e-6), for the total of the chosen scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from server.runtime.native.nodes import attributes_of
from server.runtime.native.tensors import Weights

MINUS_INFINITY = -1e4
"""The highest logit that counts as minus infinity, because float32 rounds its exponential to 0.

In graphs that were float16, minus infinity is often -65504, the smallest float16.
"""
NEGLIGIBLE = 1e-20
"""The highest score that counts as 0."""
SMALL = 8
"""The number of values below which a constant is read to compare it."""
STEPS = 16
"""The maximum number of nodes between a router's product and the logits."""


@dataclass(frozen=True, slots=True)
class Product:
    """The product of x [..., hidden] and `weights`.

    transposed: whether `weights` is [experts, hidden] instead of [hidden, experts].
    """

    x: str
    weights: str
    transposed: bool
    output: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A product, and the nodes between it and the logits.

    bias: name of the bias that is added to the scores; "" if there is none.
    chosen: the GatherElements that returns the scores of the chosen experts.
    """

    product: Product
    bias: str
    chosen: onnx.NodeProto


@dataclass(frozen=True, slots=True)
class Scale:
    """The factor of the experts' result: total / (total + epsilon), one per row.

    total: the ReduceSum that adds up the scores of the chosen experts.
    share: name of the quotient.
    result: name of the quotient with the leading axes of the hidden state.
    """

    total: onnx.NodeProto
    share: str
    result: str


class RouterFinder:
    """Finds routers in a float32 graph."""

    def __init__(self, graph: onnx.GraphProto, weights: Weights) -> None:
        self._graph, self._weights = graph, weights
        self._producers = {name: node for node in graph.node for name in node.output}

    def pattern(self, logits: str, count: int) -> Pattern | None:
        """Return the pattern before `logits`, or None if the graph lacks it.

        The module's docstring describes the pattern.

        count: number of experts that the pattern must choose.
        """
        scatter = self._node(logits, "ScatterElements") or self._node(self._node(logits, "Reshape"), "ScatterElements")
        updates = self._node(scatter, "Log", 2)
        gather = self._node(updates, "GatherElements") or self._node(self._clip(updates), "GatherElements")
        if scatter is None or gather is None or not self._is_filled_with_minus_infinity(scatter):
            return None
        top = self._producers.get(scatter.input[1])
        if top is None or gather.input[1] != scatter.input[1] or not self._chooses(top, count):
            return None
        bias, found = self._bias(top.input[0], gather.input[0]), self._scored(gather.input[0])
        if bias is None or found is None:
            return None
        product, is_flat = found
        axes = {attributes_of(node).get("axis", 0) for node in (scatter, gather)}
        return Pattern(product, bias, gather) if axes <= ({-1, 1} if is_flat else {-1}) else None

    def _scored(self, scores: str) -> tuple[Product, bool] | None:
        """Return the product whose sigmoids are `scores`, and whether they are [rows, experts]."""
        before = self._before_sigmoid(scores)
        if (product := self._product(self._producers.get(before))) is not None:
            return product, False
        reshape = self._node(before, "Reshape")
        product = None if reshape is None else self._product(self._producers.get(reshape.input[0]))
        if reshape is None or product is None:
            return None
        experts = self._weights.shape(product.weights)[0 if product.transposed else 1]
        return (product, True) if self._values(reshape.input[1]) == [-1, experts] else None

    def _clip(self, updates: onnx.NodeProto | None) -> onnx.NodeProto | None:
        """Return the Clip before `updates` that keeps scores above 0, or None if there is none."""
        clip = self._node(updates, "Clip")
        if clip is None or any(clip.input[2:]) or not 0 < (self._constant(clip.input[1]) or 0) <= NEGLIGIBLE:
            return None
        return clip

    def _is_filled_with_minus_infinity(self, scatter: onnx.NodeProto) -> bool:
        """Return whether the values between the scattered ones count as minus infinity."""
        if (expand := self._node(scatter, "Expand")) is not None:
            value = self._constant(expand.input[0])
        elif (filled := self._node(scatter, "ConstantOfShape")) is not None:
            fill = attributes_of(filled).get("value")
            value = None if fill is None else float(numpy_helper.to_array(fill).item())
        else:
            value = None
        return value is not None and value <= MINUS_INFINITY

    def _chooses(self, top: onnx.NodeProto, count: int) -> bool:
        """Return whether a node chooses the `count` largest values of each row."""
        attributes = attributes_of(top)
        is_largest = attributes.get("axis", -1) == -1 and attributes.get("largest", 1) == 1
        return top.op_type == "TopK" and is_largest and self._constant(top.input[1]) == count

    def _before_sigmoid(self, scores: str) -> str:
        """Return the name of the value whose sigmoid is `scores`; "" if it is none."""
        if (sigmoid := self._node(scores, "Sigmoid")) is not None:
            return str(sigmoid.input[0])
        raised = self._node(self._node(scores, "Reciprocal"), "Add")
        negated = self._node(self._node(raised, "Exp"), "Neg")
        if raised is None or negated is None or self._constant(raised.input[1]) != 1:
            return ""
        return str(negated.input[0])

    def scale(self, found: Pattern) -> Scale | None:
        """Return the factor that is computed from the scores of the chosen experts, or None if there is none."""
        totals = [n for n in self._readers(found.chosen.output[0]) if n.op_type == "ReduceSum"]
        if len(totals) != 1 or self._values(totals[0].input[1]) != [-1]:
            return None
        (total,) = totals
        if attributes_of(total).get("keepdims", 1) != 1 or attributes_of(total).get("noop_with_empty_axes", 0):
            return None
        by_type = {node.op_type: node for node in self._readers(total.output[0])}
        if set(by_type) != {"Add", "Div"} or list(by_type["Div"].input) != [total.output[0], by_type["Add"].output[0]]:
            return None
        share = by_type["Div"].output[0]
        readers = self._readers(share)
        if len(readers) != 1 or not self._restores_leading_axes(readers[0], found.product.x):
            return None
        return Scale(total, share, readers[0].output[0])

    def _restores_leading_axes(self, reshape: onnx.NodeProto, x: str) -> bool:
        """Return whether a Reshape makes [rows, 1] of x [..., hidden] into [..., 1]."""
        concat = self._node(reshape, "Concat", 1) if reshape.op_type == "Reshape" else None
        leading = self._node(concat, "Slice")
        shape = self._node(leading, "Shape")
        if concat is None or leading is None or shape is None or list(shape.input) != [x]:
            return False
        return [self._values(name) for name in (*leading.input[1:], *concat.input[1:])] == [[0], [-1], [1]]

    def _readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self._graph.node if name in node.input]

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

    def product_before(self, logits: str) -> Product | None:
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

    def _product(self, node: onnx.NodeProto | None) -> Product | None:
        if node is None or len(node.input) < 2 or node.op_type not in ("MatMul", "FusedMatMul"):
            return None
        attributes = attributes_of(node)
        x, weights = node.input[:2]
        if self._weights.data_type(weights) != TensorProto.FLOAT or len(self._weights.shape(weights)) != 2:
            return None
        plain = attributes.get("alpha", 1.0) == 1.0 and not any(
            attributes.get(name) for name in ("transA", "transBatchA", "transBatchB")
        )
        return Product(x, weights, bool(attributes.get("transB")), node.output[0]) if plain else None

    def _constant(self, name: str) -> float | None:
        """Return the value of a one-element constant, or None if `name` is not one."""
        values = self._values(name)
        return float(values[0]) if values is not None and len(values) == 1 else None

    def _values(self, name: str) -> list[Any] | None:
        """Return the flat values of a small constant, or None if `name` is not one."""
        node = self._producers.get(name)
        if node is not None and node.op_type == "Constant" and "value" in attributes_of(node):
            array = numpy_helper.to_array(attributes_of(node)["value"])
        elif name in self._weights and np.prod(self._weights.shape(name)) < SMALL:
            array = self._weights.array(name)
        else:
            return None
        return list(array.reshape(-1).tolist())
