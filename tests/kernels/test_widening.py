"""Float16 graphs on the native kernels: they compute in float32, with the operators of the 4-bit graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from server.runtime.graph import Graph
from server.runtime.native.library import Library
from server.runtime.native.packing import pack_in_memory, pack_into
from server.runtime.prepared_copy.lookup import copy_graph
from server.runtime.prepared_copy.writer import most_bytes
from tests.kernels.graphs import build, operators
from tests.kernels.reference import quantized

HALF = np.float16
SIZE, ROWS = 64, 300


def branch(name: str, value: float) -> onnx.GraphProto:
    """A branch whose result is a float16 constant."""
    constant = numpy_helper.from_array(np.array([value], HALF), f"{name}/value")
    node = helper.make_node("Identity", [constant.name], [name])
    return helper.make_graph(
        [node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1])], [constant]
    )


def half_graph(rng: np.random.Generator) -> Graph:
    """A graph with float16 in every place in which a type can stand."""
    matrix = quantized(rng, SIZE, SIZE)
    arrays = {
        "table": rng.standard_normal((ROWS, SIZE)).astype(HALF),
        "weight": (rng.standard_normal((SIZE, SIZE)) / 8).astype(HALF),
        "packed": matrix.weights.reshape(SIZE, SIZE // 32, -1),
        "scales": matrix.scales.astype(HALF),
    }
    one = numpy_helper.from_array(np.array([1], HALF))
    sizes = {"K": SIZE, "N": SIZE, "bits": 4, "block_size": 32}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("If", ["long"], ["chosen"], then_branch=branch("then", 2), else_branch=branch("else", 3)),
        helper.make_node("Mul", ["rows", "chosen"], ["scaled"]),
        helper.make_node("Shape", ["ids"], ["count"]),
        helper.make_node("Cast", ["count"], ["length"], to=TensorProto.FLOAT16),
        helper.make_node("Sqrt", ["length"], ["root"]),
        helper.make_node("Div", ["scaled", "root"], ["divided"]),
        helper.make_node("Cast", ["divided"], ["exact"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["exact"], ["back"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["back", "weight"], ["dense"]),
        helper.make_node("MatMulNBits", ["dense", "packed", "scales"], ["product"], domain="com.microsoft", **sizes),
        helper.make_node("ConstantOfShape", ["count"], ["ones"], value=one),
        helper.make_node("Constant", [], ["constant"], value=one),
        helper.make_node("Add", ["ones", "constant"], ["two"]),
        helper.make_node("Unsqueeze", ["two", "last"], ["column"]),
        helper.make_node("Add", ["product", "column"], ["sum"]),
        helper.make_node("Add", ["sum", "state"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("long", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", TensorProto.FLOAT16, [1]),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    constants.append(numpy_helper.from_array(np.array([-1]), "last"))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [None, SIZE])]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "half", inputs, outputs, constants)
    return Graph("half", helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(), Path())


def run(graph: Graph, library: Library, floats: Any) -> NDArray[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library.path))
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights))
    session = ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    feeds = {"ids": np.arange(7) * 11, "long": np.array(True), "state": np.array([0.5], floats)}
    result: NDArray[Any] = session.run(None, feeds)[0]
    return result


def test_a_graph_computes_the_same_in_float32(library: Library, rng: np.random.Generator, tmp_path: Path) -> None:
    graph = half_graph(rng)
    expected = run(graph, library, HALF).astype(np.float64)
    in_memory = pack_in_memory(graph, library)
    model = pack_into(graph, tmp_path, "weights", library, 1, lambda written: None)
    for wide in (in_memory, copy_graph("copy", model, tmp_path, native=True)):
        found = run(wide, library, np.float32)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 0.05 * expected.std()


def test_only_tables_stay_float16(library: Library, rng: np.random.Generator) -> None:
    graph = onnx.load_from_string(pack_in_memory(half_graph(rng), library).model).graph
    assert {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16} == {"table"}
    casts = [node for node in graph.node if node.op_type == "Cast"]
    assert sorted(name for node in casts for name in node.output) == ["length", "rows"]


def test_a_table_that_a_product_shares_becomes_float32(library: Library, rng: np.random.Generator) -> None:
    original = half_graph(rng)
    model = onnx.load_from_string(original.model)
    turned = helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0])
    model.graph.node.extend([turned, helper.make_node("MatMul", ["y", "turned"], ["logits"])])
    model.graph.output[0].name = "logits"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = ROWS
    original = Graph("tied", model.SerializeToString(), Path())
    expected = run(original, library, HALF).astype(np.float64)
    found = run(pack_in_memory(original, library), library, np.float32)
    assert np.abs(found - expected).max() < 0.05 * expected.std()


def test_a_double_is_still_cast(library: Library, rng: np.random.Generator) -> None:
    original = half_graph(rng)
    model = onnx.load_from_string(original.model)
    root = next(node for node in model.graph.node if node.op_type == "Sqrt")
    at = list(model.graph.node).index(root)
    root.input[0], root.output[0] = "long_length", "long_root"
    model.graph.node.insert(at, helper.make_node("Cast", ["length"], ["long_length"], to=TensorProto.DOUBLE))
    model.graph.node.insert(at + 2, helper.make_node("Cast", ["long_root"], ["root"], to=TensorProto.FLOAT16))
    other = Graph("double", model.SerializeToString(), Path())
    found, expected = (run(pack_in_memory(one, library), library, np.float32) for one in (other, original))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_functions_are_widened(library: Library, rng: np.random.Generator) -> None:
    original = half_graph(rng)
    model = onnx.load_from_string(original.model)
    one = numpy_helper.from_array(np.array([1], HALF))
    body = [helper.make_node("Constant", [], ["one"], value=one), helper.make_node("Add", ["value", "one"], ["more"])]
    model.functions.append(helper.make_function("local", "More", ["value"], ["more"], body, model.opset_import[:1]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node.append(helper.make_node("More", ["y"], ["z"], domain="local"))
    model.graph.output[0].name = "z"
    other = Graph("function", model.SerializeToString(), Path())
    found, expected = (run(pack_in_memory(one, library), library, np.float32) for one in (other, original))
    np.testing.assert_allclose(found, expected + 1, rtol=1e-5)


def test_a_table_that_a_caller_may_replace_becomes_float32(library: Library, rng: np.random.Generator) -> None:
    original = half_graph(rng)
    model = onnx.load_from_string(original.model)
    model.graph.input.append(helper.make_tensor_value_info("table", TensorProto.FLOAT16, [ROWS, SIZE]))
    other = Graph("replaceable", model.SerializeToString(), Path())
    found, expected = (run(pack_in_memory(one, library), library, np.float32) for one in (other, original))
    np.testing.assert_array_equal(found, expected)


def test_a_copy_takes_no_more_than_expected(library: Library, rng: np.random.Generator, tmp_path: Path) -> None:
    graph = replace(half_graph(rng), native=True)
    model = pack_into(graph, tmp_path, "weights", library, 1, lambda written: None)
    assert len(model) + (tmp_path / "weights").stat().st_size <= most_bytes(graph)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_a_model_runs_the_operators_of_its_4_bit_graph(folder: Path, library: Library) -> None:
    q4, q4f16 = (operators(pack_in_memory(build(kind, folder / kind), library)) for kind in ("q4", "q4f16"))
    q4f16["", "Cast"] -= 1  # the cast of the logits, which onnxruntime drops
    assert q4f16 == q4
