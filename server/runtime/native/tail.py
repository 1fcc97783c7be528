"""Skips positions that no result depends on in the layers after the last attention.

These layers are the tail of a graph. All layers before it compute every position of a step, because later tokens attend
to their keys and values. The tail only has to compute what leads to the last token's logits and to the convolution
windows that are kept.

A Gather before the tail drops all other positions (see `Contract.kept_positions`). The convolutions then run over the
remaining ones as if there were no gaps. The first values after a gap are wrong, but no result depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

from server.runtime.contract import KEPT_AXIS, KEPT_LOGITS, KEPT_POSITIONS, TRACE_PREFIX
from server.runtime.graph import MICROSOFT
from server.runtime.native.nodes import DOMAIN, attributes_of, values_read
from server.runtime.native.tensors import Weights

POSITION_AXIS = 1
BY_POSITION = {("", "Cast"), ("", "Mul"), ("", "Sigmoid"), (DOMAIN, "MatMul"), (DOMAIN, "Router"), (DOMAIN, "Experts")}
"""The operators that compute each position from the same position of their inputs."""
NORMS = {("", "SimplifiedLayerNormalization"), ("", "RMSNormalization")}
RESIDUALS = {("", "Add"), (MICROSOFT, "SkipSimplifiedLayerNormalization")}
"""The operators that may also read the hidden state from before the tail."""
EMBEDDINGS = {("", "Gather"), (MICROSOFT, "GatherBlockQuantized")}
ALL = 2**31 - 1
"""The smallest end of a Slice that counts as the end of the axis."""


def shorten_tail(graph: onnx.GraphProto, weights: Weights, packed: Iterable[str]) -> None:
    """Add the input `kept_positions`, int64 [kept]: the positions that the tail computes, ascending.

    packed: names of the packed weights, which the graph does not contain yet.

    The graph must have no value_info, since the shapes in it would be wrong. Graphs whose tail has unknown operators
    stay unchanged, and so do graphs without GroupQueryAttention.
    """
    attentions = [i for i, node in enumerate(graph.node) if node.op_type == "GroupQueryAttention"]
    if not attentions:
        return
    tail = _Tail(graph, attentions[-1], weights, packed)
    if tail.can_be_shortened():
        tail.shorten()


class _Tail:
    """The nodes that depend on the last attention.

    _nodes: their indices in the graph.
    _values: the attention's result, and the results of the nodes.
    _constants: values that depend on no input.
    _counts: values that depend only on `num_logits_to_keep` and constants.
    _hidden_states: values from before the tail that have one row per position.
    """

    def __init__(self, graph: onnx.GraphProto, attention: int, weights: Weights, packed: Iterable[str]) -> None:
        self._graph, self._weights = graph, weights
        self._attended = graph.node[attention].output[0]
        self._values = {self._attended}
        self._nodes = []
        for i, node in enumerate(graph.node):
            if i > attention and self._values.intersection(values_read(node)):
                self._nodes.append(i)
                self._values.update(filter(None, node.output))
        self._constants = {"", *packed, *(tensor.name for tensor in graph.initializer)}
        self._counts = {KEPT_LOGITS}
        self._hidden_states: set[str] = set()
        for node in graph.node:
            self._classify(node)

    def _classify(self, node: onnx.NodeProto) -> None:
        """Add the results of a node to one of the sets, if it belongs there."""
        kind, read = (node.domain, node.op_type), set(values_read(node))
        if read <= self._constants:
            self._constants.update(node.output)
        elif read <= self._constants | self._counts:
            self._counts.update(node.output)
        elif (kind in EMBEDDINGS and "input_ids" in read) or (
            kind in RESIDUALS | BY_POSITION and self._hidden_states.intersection(read)
        ):
            self._hidden_states.update(set(node.output) - self._values - {""})

    def can_be_shortened(self) -> bool:
        """Return whether every node computes each position independently, except for convolutions."""
        return all(self._is_known(self._graph.node[i]) for i in self._nodes)

    def _is_known(self, node: onnx.NodeProto) -> bool:
        kind, from_before = (node.domain, node.op_type), set(values_read(node)) - self._values - self._constants
        if kind in RESIDUALS:
            return from_before <= self._hidden_states
        if kind == (DOMAIN, "Convolution"):
            return from_before == {node.input[1]}
        if kind == ("", "Slice"):
            return from_before <= self._counts and self._keeps_last_positions(node)
        if kind == ("", "MatMul"):
            return node.input[1] in self._constants
        is_norm = kind in NORMS and attributes_of(node).get("axis", -1) == -1
        return not from_before and (is_norm or kind in BY_POSITION)

    def _keeps_last_positions(self, node: onnx.NodeProto) -> bool:
        """Return whether a Slice keeps the last `num_logits_to_keep` positions."""
        _, start, end, axes, steps = [*node.input, "", ""][:5]
        number = self._weights.number
        is_to_the_end = (number(end) or 0) >= ALL and number(axes) == POSITION_AXIS
        return start in self._counts and is_to_the_end and (not steps or number(steps) == 1)

    def shorten(self) -> None:
        """Gather the kept positions of all values that enter the tail."""
        inside, nodes, gathered = set(self._nodes), list[onnx.NodeProto](), set[str]()
        for i, node in enumerate(self._graph.node):
            for k, name in enumerate(node.input if i in inside else ()):
                if name == self._attended or name in self._hidden_states:
                    node.input[k] = f"{name}/kept"
                    if name not in gathered:
                        gathered.add(name)
                        nodes.append(_gather(name, node.input[k]))
            nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        self._graph.input.append(helper.make_tensor_value_info(KEPT_POSITIONS, TensorProto.INT64, [KEPT_AXIS]))
        for output in self._graph.output:
            if output.name in self._values and output.name.startswith(TRACE_PREFIX):
                output.type.tensor_type.shape.dim[POSITION_AXIS].dim_param = KEPT_AXIS


def _gather(name: str, kept: str) -> onnx.NodeProto:
    return helper.make_node("Gather", [name, KEPT_POSITIONS], [kept], name=f"{kept}/gather", axis=POSITION_AXIS)
