"""Replaces gated short convolutions with lfm.Convolution nodes.

Exporters write such a convolution in different ways. All nodes between its input projection and its output projection
are replaced if an lfm.Convolution computes the same values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, RuntimeException

from server.runtime.contract import TRACE_PREFIX
from server.runtime.native.library import Library
from server.runtime.native.nodes import DOMAIN, needed, values_read
from server.runtime.native.tensors import Weights

BEFORE_TRACE = ("Transpose", "Split", "Mul", "Concat", "Slice")
"""The operators allowed between the input projection and the trace."""
INSIDE = (*BEFORE_TRACE, "Add")
"""The operators allowed between the input projection and the output projection."""
SIZES = ((2, 1), (1, 5))
"""(batch, length) of the compared runs: a decode batch and a prefill chunk."""
TOLERANCE = 1e-5
"""The largest relative and absolute difference of values that count as equal."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Nodes that one operator may replace, if they compute a short convolution.

    projected: name of the input projection's result, [batch, length, 3 * hidden].
    past: name of the past state.
    state: (hidden, L) of the past state [batch, hidden, L].
    sizes: names of further inputs that the nodes read only for their shapes.
    constants: names of the initializers that the nodes read, including `parameters`.
    parameters: names of the weight [hidden, 1, taps] and, if there is one, of the bias [hidden].
    outputs: names of the gated result, the trace and the present state.
    """

    nodes: list[onnx.NodeProto]
    projected: str
    past: str
    state: tuple[int, int]
    sizes: list[str]
    constants: list[str]
    parameters: list[str]
    outputs: tuple[str, str, str]

    def native(self) -> onnx.NodeProto:
        inputs = [self.projected, self.past, *self.parameters]
        name = f"{self.outputs[0]}/convolution"
        return helper.make_node("Convolution", inputs, self.outputs, name=name, domain=DOMAIN)


def replace_convolutions(model: onnx.ModelProto, weights: Weights, library: Library) -> None:
    """Replace the gated short convolutions of a graph, and drop unused nodes."""
    graph = model.graph
    replaced = {
        candidate.outputs[0]: candidate.native()
        for candidate in _candidates(graph, weights)
        if _same_values(candidate, model, weights, library)
    }
    made = {name for node in replaced.values() for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if (native := next((replaced[name] for name in node.output if name in replaced), None)) is not None:
            nodes.append(native)
        elif not made.intersection(node.output):
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(needed(nodes, [value.name for value in graph.output]))


def _candidates(graph: onnx.GraphProto, weights: Weights) -> Iterator[_Candidate]:
    producers = {name: node for node in graph.node for name in node.output}
    results = {value.name for value in graph.output}
    for value in graph.input:
        past, trace = value.name, f"{TRACE_PREFIX}{value.name}"
        if trace not in producers:
            continue
        projected = _projected(trace, past, producers)
        inside = _dependents(graph, {past, projected})
        made = {name for node in inside for name in node.output}
        present = made & results - {trace}
        gated = made & {name for node in graph.node if node not in inside for name in values_read(node)}
        if projected and len(present) == len(gated) == 1:
            outputs = (gated.pop(), trace, present.pop())
            if (candidate := _candidate(graph, weights, projected, value, outputs)) is not None:
                yield candidate


def _projected(trace: str, past: str, producers: dict[str, onnx.NodeProto]) -> str:
    """Return the name of the input projection's result, or "" if it is ambiguous.

    The trace is computed from this value and the past state only.
    """
    sources, waiting = set(), [trace]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is not None and node.domain == "" and node.op_type in BEFORE_TRACE:
            waiting.extend(node.input[:1] if node.op_type in ("Split", "Slice") else node.input)
        else:
            sources.add(name)
    (projected,) = sources - {past} if len(sources - {past}) == 1 else ("",)
    return projected


def _dependents(graph: onnx.GraphProto, values: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that depend on `values` through operators in INSIDE only."""
    reached, nodes = set(values), []
    for node in graph.node:
        if node.domain == "" and node.op_type in INSIDE and reached.intersection(node.input):
            nodes.append(node)
            reached.update(node.output)
    return nodes


def _candidate(
    graph: onnx.GraphProto,
    weights: Weights,
    projected: str,
    past: onnx.ValueInfoProto,
    outputs: tuple[str, str, str],
) -> _Candidate | None:
    """Return the candidate with these outputs, or None if its inputs do not fit.

    Its nodes must read exactly one weight and at most one bias. Otherwise, they may read only `projected`, the past
    state, shapes and other initializers.
    """
    cut = [node for node in graph.node if node.op_type != "Shape" and projected not in node.output]
    nodes = needed(cut, outputs)
    made = {name for node in nodes for name in node.output} | {projected, past.name, ""}
    read = {name for node in nodes for name in values_read(node)} - made
    constants = sorted(name for name in read if name in weights)
    shapes = {node.output[0]: node for node in graph.node if node.op_type == "Shape"}
    if not all(name in weights or name in shapes for name in read):
        return None
    floats = [name for name in constants if weights.data_type(name) == TensorProto.FLOAT]
    kernels = [name for name in floats if len(weights.shape(name)) == 3]
    biases = [name for name in floats if len(weights.shape(name)) == 1]
    if len(kernels) != 1 or len(biases) > 1:
        return None
    taken = [shapes[name] for name in read if name in shapes]
    sizes = sorted({node.input[0] for node in taken} - made)
    _, hidden, columns = (dim.dim_value for dim in past.type.tensor_type.shape.dim)
    return _Candidate(
        [*taken, *nodes], projected, past.name, (hidden, columns), sizes, constants, kernels + biases, outputs
    )


def _same_values(candidate: _Candidate, model: onnx.ModelProto, weights: Weights, library: Library) -> bool:
    """Return whether an lfm.Convolution computes the same values as the candidate."""
    hidden, columns = candidate.state
    names = [candidate.projected, candidate.past, *candidate.sizes]
    constants = [numpy_helper.from_array(np.array(weights.array(name)), name) for name in candidate.constants]
    rng = np.random.default_rng(hidden)
    try:
        sessions = [
            _session(nodes, names, candidate.outputs, constants, model, library)
            for nodes in (candidate.nodes, [candidate.native()])
        ]
        for batch, length in SIZES:
            shapes = [(batch, length, 3 * hidden), (batch, hidden, columns), *[(batch, length, hidden)] * len(names)]
            values = {n: rng.standard_normal(shape, np.float32) for n, shape in zip(names, shapes, strict=False)}
            original, native = (session.run(list(candidate.outputs), values) for session in sessions)
            for one, other in zip(original, native, strict=True):
                if one.shape != other.shape or not np.allclose(one, other, TOLERANCE, TOLERANCE):
                    return False
    except (Fail, InvalidArgument, InvalidGraph, RuntimeException):
        return False
    return True


def _session(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    constants: Sequence[onnx.TensorProto],
    model: onnx.ModelProto,
    library: Library,
) -> ort.InferenceSession:
    """Open a session that runs `nodes`.

    All inputs and outputs are float32 with three axes.
    """

    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, None])

    graph = helper.make_graph(nodes, "convolution", [*map(info, inputs)], [*map(info, outputs)], constants)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.register_custom_ops_library(str(library.path))
    return ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
