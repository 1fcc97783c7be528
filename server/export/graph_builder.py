"""Builds an ONNX graph node by node, and writes large weights straight to disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper

from server.export.external_data import ExternalData

MICROSOFT = "com.microsoft"
OPSET, IR_VERSION = 21, 10
INLINE_BYTES = 1024
"""The maximum size of a weight in the .onnx file, in bytes.

Larger weights go to separate files. Shape inference needs small constants in the .onnx file.
"""

Shape = Sequence[int | str]


class GraphBuilder:
    """A graph under construction.

    Unnamed values get names such as `layer.0/Mul_12:0`: scope, operator, node number, output number.
    """

    def __init__(self, data: ExternalData) -> None:
        """Start an empty graph.

        data: writer for large weights. The caller must close it.
        """
        self._data = data
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scope = ""

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of all values created in a `with` block with `<name>/`."""
        outer, self._scope = self._scope, f"{self._scope}{name}/"
        yield
        self._scope = outer

    def input(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        """Add an input to the graph and return its name.

        Strings in `shape` are symbolic axes.
        """
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        """Add an output to the graph and return its name.

        Strings in `shape` are symbolic axes.
        """
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def node(self, op: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name.

        The input name "" omits an optional input.
        """
        return self.nodes(op, *inputs, outs=(out,), domain=domain, **attributes)[0]

    def nodes(
        self, op: str, *inputs: str, outs: Sequence[str | None], domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs and return their names.

        outs: names of the outputs. None generates a name.
        """
        name = f"{self._scope}{op}_{len(self._nodes)}"
        names = tuple(out or f"{name}:{i}" for i, out in enumerate(outs))
        self._nodes.append(helper.make_node(op, inputs, names, name=name, domain=domain, **attributes))
        return names

    def tail(self, x: str, first: str, axis: int, out: str | None = None) -> str:
        """Add a slice of `x` that extends to the end of `axis`.

        first: name of the value with the slice's first index, int64 [1].
        """
        return self.node("Slice", x, first, self.constant([2**63 - 1]), self.constant([axis]), out=out)

    def constant(self, value: Any, dtype: DTypeLike = np.int64) -> str:
        """Add a small constant, unless there is an equal one, and return its name."""
        array = np.array(value, dtype)
        name = f"constant_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.ravel().tolist()}"
        return name if name in self._initializers else self.weight(name, array)

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Add an initializer and return its name.

        Arrays larger than INLINE_BYTES are written to disk immediately.
        """
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        if array.nbytes > INLINE_BYTES:
            self._data.write(tensor, array)
        else:
            tensor.raw_data = array.tobytes()
        self._initializers[name] = tensor
        return name

    def view(self, name: str, of: str, shape: Sequence[int]) -> str:
        """Add an initializer that shares the bytes of the initializer `of`.

        shape: shape of the new initializer.
        """
        tensor = TensorProto()
        tensor.CopyFrom(self._initializers[of])
        tensor.name = name
        tensor.ClearField("dims")
        tensor.dims.extend(shape)
        self._initializers[name] = tensor
        return name

    def save(self, path: Path, name: str) -> None:
        """Write the .onnx file.

        name: name of the graph in the file.
        """
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        onnx.save(
            helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lfm-serve"),
            path,
        )
