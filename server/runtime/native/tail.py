"""Lets the layers after the last attention skip positions that no result depends on.

These layers are the tail of a graph. All layers before it compute every position of a step, because later tokens attend
to their keys and values. The tail only has to compute what leads to the last token's logits and to the convolution
windows that are kept.

A Gather before the tail drops all other positions (see `Contract.kept_positions`). The convolutions then run over the
remaining ones as if there were no gaps. The first values after a gap are wrong, but no result depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper, numpy_helper

from server.runtime.contract import KEPT_AXIS, KEPT_LOGITS, KEPT_POSITIONS, TRACE_PREFIX
from server.runtime.native.nodes import DOMAIN, attributes_of, values_read

MICROSOFT = "com.microsoft"
POSITION_AXIS = 1
BY_POSITION = {("", "Cast"), ("", "Mul"), ("", "Sigmoid"), (DOMAIN, "MatMul"), (DOMAIN, "Router"), (DOMAIN, "Experts")}
"""The operators that compute each position from the same position of their inputs."""
NORMS = {("", "SimplifiedLayerNormalization"), ("", "RMSNormalization")}
RESIDUALS = {("", "Add"), (MICROSOFT, "SkipSimplifiedLayerNormalization")}
"""The operators that may also read values from before the tail, such as the hidden state."""


def shorten_tail(graph: onnx.GraphProto, packed: Iterable[str]) -> None:
    """Add the input `kept_positions`, int64 [kept]: the positions that the tail computes, ascending.

    packed: names of the packed weights, which the graph does not contain yet.

    Graphs whose tail has unknown operators stay unchanged, and so do graphs without GroupQueryAttention.
    """
    attentions = [i for i, node in enumerate(graph.node) if node.op_type == "GroupQueryAttention"]
    if not attentions:
        return
    tail = _Tail(graph, attentions[-1], packed)
    if tail.is_known():
        tail.shorten()


class _Tail:
    """The nodes that depend on the last attention.

    _nodes: their indices in the graph.
    _values: the attention's result, and the results of the nodes.
    _constants: values that depend on no input.
    _counts: values that depend only on `num_logits_to_keep` and constants.
    """

    def __init__(self, graph: onnx.GraphProto, attention: int, packed: Iterable[str]) -> None:
        self._graph = graph
        self._attended = graph.node[attention].output[0]
        self._values = {self._attended}
        self._nodes = []
        for i, node in enumerate(graph.node):
            if i > attention and self._values.intersection(values_read(node)):
                self._nodes.append(i)
                self._values.update(node.output)
        self._constants = {"", *packed, *(tensor.name for tensor in graph.initializer)}
        self._counts = {KEPT_LOGITS}
        for node in graph.node:
            read = set(values_read(node))
            if read <= self._constants:
                self._constants.update(node.output)
            elif read <= self._constants | self._counts:
                self._counts.update(node.output)

    def is_known(self) -> bool:
        """Return whether every node computes each position independently, except for convolutions."""
        return all(self._is_known(self._graph.node[i]) for i in self._nodes)

    def _is_known(self, node: onnx.NodeProto) -> bool:
        kind, before = (node.domain, node.op_type), set(values_read(node)) - self._values - self._constants
        if kind in RESIDUALS:
            return True
        if kind == (DOMAIN, "Convolution"):
            return before == {node.input[1]}
        if kind == ("", "Slice"):
            return before <= self._counts and self._keeps_last_positions(node)
        if kind == ("", "MatMul"):
            return node.input[1] in self._constants
        is_norm = kind in NORMS and attributes_of(node).get("axis", -1) == -1
        return not before and (is_norm or kind in BY_POSITION)

    def _keeps_last_positions(self, node: onnx.NodeProto) -> bool:
        """Return whether a Slice keeps the last `num_logits_to_keep` positions."""
        axes = next((tensor for tensor in self._graph.initializer if tensor.name in node.input[3:4]), None)
        along = axes is not None and numpy_helper.to_array(axes).tolist() == [POSITION_AXIS]
        return along and node.input[1] in self._counts and node.input[2] in self._constants

    def shorten(self) -> None:
        """Gather the kept positions of all values that enter the tail."""
        inside, nodes, kept = set(self._nodes), list[onnx.NodeProto](), set[str]()
        is_sliced = False
        for i, node in enumerate(self._graph.node):
            for k, name in enumerate(node.input if i in inside else ()):
                if self._enters(node, name):
                    node.input[k] = f"{name}/kept"
                    if node.input[k] not in kept:
                        kept.add(node.input[k])
                        nodes.append(_gather(name, node.input[k]))
            is_sliced |= i in inside and node.op_type == "Slice"
            nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        self._graph.input.append(helper.make_tensor_value_info(KEPT_POSITIONS, TensorProto.INT64, [KEPT_AXIS]))
        for output in self._graph.output:
            if output.name in self._values and (
                output.name.startswith(TRACE_PREFIX) or (output.name == "logits" and not is_sliced)
            ):
                output.type.tensor_type.shape.dim[POSITION_AXIS].dim_param = KEPT_AXIS

    def _enters(self, node: onnx.NodeProto, name: str) -> bool:
        """Return whether a node of the tail reads `name` from before the tail, with one row per position."""
        if name == self._attended:
            return True
        is_residual = (node.domain, node.op_type) in RESIDUALS
        return is_residual and name not in self._values and name not in self._constants


def _gather(name: str, kept: str) -> onnx.NodeProto:
    return helper.make_node("Gather", [name, KEPT_POSITIONS], [kept], name=f"{kept}/gather", axis=POSITION_AXIS)
