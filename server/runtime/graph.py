"""Rewrites a decoder graph before onnxruntime loads it.

A short convolution works on a window: L past values and those of S new tokens, [batch, hidden, L + S]. The rewritten
graph holds this window as [batch, L + S, hidden], which permits two changes:

- The convolution becomes a sum of slices, one per tap. In a decode step, this is ten times faster. Results are
  bit-identical.
- The window becomes an output, the trace (see `StateTensor`).

With Precision.FAST, 4- and 8-bit layers also round their activations to int8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from server.runtime.contract import TRACE_PREFIX
from server.runtime.model_folder import read_graph

MICROSOFT = "com.microsoft"
INT8_OPERATORS = ("MatMulNBits", "QMoE")
INT8_ACCURACY = 4  # the accuracy_level for which onnxruntime rounds blocks of activations to int8
LENGTH_AXIS = 2  # the length axis of a window before it is transposed
DEFAULTS: dict[str, Any] = {"auto_pad": b"NOTSET", "pads": [0, 0], "strides": [1], "dilations": [1]}


class Precision(StrEnum):
    """The precision of a graph's computations.

    FAST: 4- and 8-bit layers round their activations to int8.
    EXACT: all layers compute as exported.
    """

    FAST = "fast"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Graph:
    """A serialized model and the location of its external weights.

    name: name of the graph in messages.
    weights: folder with the external weights, directly or in subfolders.
    prepared: whether the graph is a prepared copy, which is already checked.
    native: whether the native kernels compute the 4- and 8-bit layers.
    files: the files with external weights.
    source: the file from which the graph was loaded; None for a prepared copy.
    tensors: external weights that are already in memory, by name. onnxruntime maps all others.
    droppable_bytes: size of the weights that the system may drop and therefore counts as free memory.
    """

    name: str
    model: bytes
    weights: Path
    prepared: bool = False
    native: bool = False
    files: tuple[Path, ...] = ()
    source: Path | None = None
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    droppable_bytes: int = 0

    @property
    def weight_bytes(self) -> int:
        """The size in bytes of `model` and of the external weights."""
        return len(self.model) + sum(file.stat().st_size for file in self.files)


def load(path: Path, precision: Precision, native: bool = False) -> Graph:
    """Read and rewrite the graph at `path`.

    native: whether the native kernels should compute the layers that they support.

    Raises ModelFolderError if the graph cannot be read.
    """
    model = read_graph(path)
    rewrite(model, precision)
    return replace(_graph(model, path), native=native and has_quantized_layers(model.graph))


def load_original(path: Path) -> Graph:
    """Read the graph at `path` without rewriting it.

    Raises ModelFolderError if the graph cannot be read.
    """
    return _graph(read_graph(path), path)


def _graph(model: onnx.ModelProto, path: Path) -> Graph:
    weights, files = _follow_links(model, path.parent)
    return Graph(path.name, model.SerializeToString(deterministic=True), weights, files=files, source=path.resolve())


def rewrite(model: onnx.ModelProto, precision: Precision) -> None:
    """Rewrite a graph in place for `precision`, and transpose its convolutions."""
    if precision is Precision.FAST:
        _use_int8(model.graph)
    _Convolutions(model.graph).rewrite()


def _follow_links(model: onnx.ModelProto, folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """Replace links to weight files with the paths of the linked files.

    Returns the common folder of the files, and their paths.
    """
    # The hub's cache contains links, and onnxruntime rejects links that leave the graph's folder.
    entries = [e for tensor in model.graph.initializer for e in tensor.external_data if e.key == "location"]
    files = {entry.value: (folder / entry.value).resolve() for entry in entries}
    if not files:
        return folder, ()
    real = Path(os.path.commonpath([file.parent for file in files.values()]))
    for entry in entries:
        entry.value = files[entry.value].relative_to(real).as_posix()
    return real, tuple(sorted(set(files.values())))


def has_quantized_layers(graph: onnx.GraphProto) -> bool:
    """Return whether a graph has operators on 4- or 8-bit weights."""
    return any(node.domain == MICROSOFT and node.op_type in INT8_OPERATORS for node in graph.node)


def _use_int8(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.domain == MICROSOFT and node.op_type in INT8_OPERATORS:
            kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("accuracy_level", INT8_ACCURACY)])


class _Convolutions:
    """A rewriter that transposes the convolution windows of a graph.

    Values computed from windows stay transposed, too. A Transpose restores them where needed.

    _turned: maps the name of an original value to that of its transpose.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._pasts = {value.name: value for value in graph.input if _is_conv_state(value)}
        self._constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 1}
        self._windows: dict[str, str] = {}  # maps the name of a window to that of its past state
        self._turned: dict[str, str] = {}
        self._turned_back: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> None:
        if not self._pasts:
            return
        for node in self._graph.node:
            self._add(node)
        self._turn_back([value.name for value in self._graph.output])
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _add(self, node: onnx.NodeProto) -> None:
        if self._is_window(node):
            past, new = node.input
            self._windows[node.output[0]] = past
            self._turned[node.output[0]] = self._window(past, new)
        elif self._is_fused(node):
            self._unfuse(node)
        elif self._is_depthwise(node):
            window, weight, *bias = node.input
            taps = self._attribute(node, "kernel_shape")[0]
            past, output = self._windows[window], node.output[0]
            self._turned[output] = self._sum(past, output, taps, weight, *filter(None, bias))
        elif self._is_slice_of_turned(node):
            window, start, end, _, *step = node.input
            sliced = self._slice(self._turned[window], node.output[0], start, end, *step)
            self._emit("Transpose", [sliced], node.output[0], perm=[0, 2, 1])
        else:
            self._turn_back(node.input)
            self._nodes.append(node)

    def _window(self, past: str, new: str) -> str:
        """Add a transposed window of past and new values, and return its name.

        The window becomes an output of the graph.
        """
        trace = f"{TRACE_PREFIX}{past}"
        parts = [self._emit("Transpose", [part], f"{trace}/{part}", perm=[0, 2, 1]) for part in (past, new)]
        self._emit("Concat", parts, trace, axis=1)
        tensor = self._pasts[past].type.tensor_type
        batch, hidden, _ = tensor.shape.dim
        shape = [batch.dim_param, f"{trace}/length", hidden.dim_value]
        self._graph.output.append(helper.make_tensor_value_info(trace, tensor.elem_type, shape))
        return trace

    def _unfuse(self, node: onnx.NodeProto) -> None:
        """Replace a CausalConvWithState node with separate operators."""
        new, weight, bias, past = node.input
        output, present = node.output
        # This node's state has one column fewer than its weight.
        columns = self._pasts[past].type.tensor_type.shape.dim[LENGTH_AXIS].dim_value
        window = self._window(past, new)
        summed = self._sum(past, output, columns + 1, weight, *filter(None, [bias]))
        if self._attribute(node, "activation") in (b"silu", b"swish"):
            gate = self._emit("Sigmoid", [summed], f"{output}/gate")
            summed = self._emit("Mul", [summed, gate], f"{output}/activated")
        self._emit("Transpose", [summed], output, perm=[0, 2, 1])
        last = self._slice(window, present, self._constant([-columns]), self._constant([2**63 - 1]))
        self._emit("Transpose", [last], present, perm=[0, 2, 1])

    def _sum(self, past: str, name: str, taps: int, weight: str, *bias: str) -> str:
        """Add a depthwise convolution as a sum of slices of the window of `past`.

        taps: size of the convolution's kernel.

        Returns the name of the result, [batch, length - taps + 1, hidden] for a window of `length` values.
        """
        columns = self._emit("Transpose", [weight], f"{name}/weight", perm=[1, 2, 0])
        addends = []
        for tap in range(taps):
            end = tap - taps + 1 or 2**63 - 1
            part = self._slice(f"{TRACE_PREFIX}{past}", f"{name}/{tap}", self._constant([tap]), self._constant([end]))
            column = self._emit("Gather", [columns, self._constant(tap)], f"{name}/{tap}/weight", axis=1)
            addends.append(self._emit("Mul", [part, column], f"{name}/{tap}/product"))
        total, *others = [*addends, *bias]
        for i, other in enumerate(others):
            total = self._emit("Add", [total, other], f"{name}/sum/{i}")
        return total

    def _is_window(self, node: onnx.NodeProto) -> bool:
        along = self._attribute(node, "axis")
        return node.op_type == "Concat" and len(node.input) == 2 and node.input[0] in self._pasts and along in (2, -1)

    def _is_fused(self, node: onnx.NodeProto) -> bool:
        known = self._attribute(node, "activation") in (None, b"", b"none", b"silu", b"swish")
        whole = len(node.input) == 4 and node.input[-1] in self._pasts and len(node.output) == 2
        return node.domain == MICROSOFT and node.op_type == "CausalConvWithState" and known and whole

    def _is_depthwise(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Conv" or node.input[0] not in self._windows or not self._attribute(node, "kernel_shape"):
            return False
        plain = all(self._attribute(node, name) in (None, default) for name, default in DEFAULTS.items())
        hidden = self._pasts[self._windows[node.input[0]]].type.tensor_type.shape.dim[1].dim_value
        return plain and self._attribute(node, "group") == hidden

    def _is_slice_of_turned(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Slice" or node.input[0] not in self._turned or len(node.input) < 4:
            return False
        axes = self._constants.get(node.input[3])
        return axes is not None and numpy_helper.to_array(axes).tolist() in ([LENGTH_AXIS], [-1])

    def _turn_back(self, values: Sequence[str]) -> None:
        for value in values:
            if value in self._turned and value not in self._turned_back:
                self._turned_back.add(value)  # onnxruntime removes pairs of transposes that cancel out
                self._emit("Transpose", [self._turned[value]], value, perm=[0, 2, 1])

    def _slice(self, turned: str, name: str, start: str, end: str, *step: str) -> str:
        return self._emit("Slice", [turned, start, end, self._constant([1]), *step], f"{name}/turned")

    def _emit(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def _constant(self, value: Any) -> str:
        name = f"{TRACE_PREFIX}constant/{value}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.array(value, np.int64), name)
            self._graph.initializer.append(self._constants[name])
        return name

    @staticmethod
    def _attribute(node: onnx.NodeProto, name: str) -> Any:
        """Return the value of an attribute, or None if the node lacks it."""
        return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _is_conv_state(value: onnx.ValueInfoProto) -> bool:
    shape = value.type.tensor_type.shape.dim
    return value.name.startswith("past") and len(shape) == 3 and shape[1].dim_value > 0 and shape[2].dim_value > 0
