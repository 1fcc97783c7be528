"""The built-in model, slowed down by useless multiplications per token."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.loading.model_choice import BUILT_IN

ROUNDS_PER_TOKEN = 40
SIZE = 1536


def slow_model(folder: Path) -> Path:
    """Write the model to a new folder, and return `folder`."""
    shutil.copytree(BUILT_IN, folder)
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    weight = numpy_helper.from_array(np.full((SIZE, SIZE), 1 / SIZE, np.float32), "burden_weight")
    start = numpy_helper.from_array(np.ones((SIZE, 1), np.float32), "burden_start")
    constants = {"burden_rounds": np.int64(ROUNDS_PER_TOKEN), "burden_axis": np.array([1]), "burden_first": np.int64(0)}
    constants |= {"burden_go_on": np.bool_(True), "burden_nothing": np.float32(0)}
    graph.initializer.extend(
        [weight, start, *(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())]
    )
    for node in graph.node:
        node.output[:] = ["unburdened" if name == "logits" else name for name in node.output]
    make = helper.make_node
    graph.node.extend(
        [
            make("Shape", ["input_ids"], ["burden_shape"]),
            make("Gather", ["burden_shape", "burden_axis"], ["burden_tokens"], axis=0),
            make("Mul", ["burden_tokens", "burden_rounds"], ["burden_trips_1d"]),
            make("Squeeze", ["burden_trips_1d"], ["burden_trips"]),
            make("Loop", ["burden_trips", "burden_go_on", "burden_start"], ["burden_end"], body=_body()),
            make("ReduceSum", ["burden_end"], ["burden_sum"], keepdims=0),
            make("Mul", ["burden_sum", "burden_nothing"], ["burden"]),
            make("Add", ["unburdened", "burden"], ["logits"]),
        ]
    )
    onnx.save(model, path)
    return folder


def _body() -> onnx.GraphProto:
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("MatMul", ["burden_weight", "vector"], ["vector_out"]),
        ],
        "burden",
        [value("round", TensorProto.INT64, []), value("go_on", TensorProto.BOOL, []),
         value("vector", TensorProto.FLOAT, [SIZE, 1])],
        [value("go_on_out", TensorProto.BOOL, []), value("vector_out", TensorProto.FLOAT, [SIZE, 1])],
    )  # fmt: skip
