"""Every format of a layer that the kernels know, against onnxruntime's own operator."""

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
from server.runtime.native.packing import pack_in_memory
from tests.kernels.reference import expert_block, quantized

Arrays = dict[str, NDArray[Any]]
ROWS = 6


def graph(op: str, x: NDArray[Any], inputs: Arrays, others: Arrays, **attributes: Any) -> Graph:
    """A graph of one operator with the inputs `x`, `others` and, as constants, `inputs`. An empty name is left out."""
    kind = TensorProto.FLOAT16 if x.dtype == np.float16 else TensorProto.FLOAT
    free = [helper.make_tensor_value_info(n, kind, [None, v.shape[1]]) for n, v in {"x": x, **others}.items()]
    constants = [numpy_helper.from_array(array, name) for name, array in inputs.items() if array.size]
    names = ["x", *others, *[name if array.size else "" for name, array in inputs.items()]]
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", **attributes)
    y = helper.make_tensor_value_info("y", kind, None)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], op, free, [y], constants), opset_imports=opsets, ir_version=10)
    return Graph(op, model.SerializeToString(), Path())


def compare(library: Library, original: Graph, feeds: Arrays, tolerance: float) -> None:
    """Compare the native layer, which computes in float32, with onnxruntime's."""
    native = pack_in_memory(original, library)
    wide = {name: value.astype(np.float32) for name, value in feeds.items()}
    assert {node.domain for node in onnx.load_from_string(native.model).graph.node} <= {"lfm", ""}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library.path))
    y, expected = (
        ort.InferenceSession(g.model, options, providers=["CPUExecutionProvider"]).run(None, given)[0]
        for g, given in ((native, wide), (original, feeds))
    )
    assert y.dtype == np.float32
    error = y.astype(np.float64) - expected.astype(np.float64)
    assert np.sqrt(np.mean(error**2)) < tolerance * np.sqrt(np.mean(expected.astype(np.float64) ** 2))


@pytest.mark.parametrize("floats", [np.float32, np.float16])
@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_matrix_product_of_every_format(
    library: Library, rng: np.random.Generator, floats: Any, block: int, bits: int, zeros: bool, bias: bool
) -> None:
    matrix = quantized(rng, 48, 256, bits, zeros, block)
    x = rng.standard_normal((ROWS, 256)).astype(floats)
    blocks = 256 // block
    inputs = {
        "w": matrix.weights.reshape(48, blocks, -1),
        "scales": matrix.scales.astype(floats),
        "zeros": matrix.zeros if matrix.zeros is not None else np.empty(0),
        "groups": np.empty(0),
        "bias": rng.standard_normal(48).astype(floats) if bias else np.empty(0),
    }
    compare(library, graph("MatMulNBits", x, inputs, {}, K=256, N=48, bits=bits, block_size=block), {"x": x}, 0.01)


@pytest.mark.parametrize("floats", [np.float32, np.float16])
@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_block_of_experts_of_every_format(
    library: Library, rng: np.random.Generator, floats: Any, block: int, bits: int, zeros: bool, bias: bool
) -> None:
    experts = expert_block(rng, 4, 2, 256, 128, bits=bits, zeros=zeros, block=block)
    x = (rng.standard_normal((ROWS, 256)) / 8).astype(floats)
    logits = rng.standard_normal((ROWS, 4)).astype(floats)
    inputs: Arrays = {}
    for name, matrices in (("up", experts.up), ("down", experts.down)):
        inputs[name] = np.stack([matrix.weights for matrix in matrices])
        inputs[f"{name}_scales"] = np.stack([matrix.scales.astype(floats) for matrix in matrices])
        rows = len(matrices[0].dense)
        inputs[f"{name}_bias"] = rng.standard_normal((4, rows)).astype(floats) if bias else np.empty(0)
    inputs |= {"third": np.empty(0), "third_scales": np.empty(0), "third_bias": np.empty(0)}
    for name, matrices in (("up", experts.up), ("down", experts.down)) if zeros else ():
        inputs[f"{name}_zeros"] = np.stack([matrix.zeros for matrix in matrices])  # type: ignore[arg-type]
    attributes = {"activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0}
    sizes = {"k": 2, "expert_weight_bits": bits, "block_size": block, "normalize_routing_weights": 1}
    original = graph("QMoE", x, inputs, {"logits": logits}, **attributes, **sizes)
    compare(library, original, {"x": x, "logits": logits}, 0.02)


def test_equal_values_with_other_scales_are_another_matrix(library: Library, rng: np.random.Generator) -> None:
    """Some tools store equal tensors once."""
    matrix = quantized(rng, 48, 256)
    x = rng.standard_normal((ROWS, 256)).astype(np.float32)
    scales = matrix.scales.astype(np.float32)
    inputs = {"w": matrix.weights.reshape(48, 8, -1), "scales": scales}
    original = graph("MatMulNBits", x, inputs, {}, K=256, N=48, bits=4, block_size=32)
    model = onnx.load_from_string(original.model)
    model.graph.initializer.append(numpy_helper.from_array(3 * scales, "others"))
    first = model.graph.node[0]
    second = model.graph.node.add()
    second.CopyFrom(first)
    first.output[0], second.output[0], second.input[2] = "a", "b", "others"
    model.graph.node.append(helper.make_node("Sub", ["a", "b"], ["y"]))
    compare(library, replace(original, model=model.SerializeToString()), {"x": x}, 0.01)


def test_one_expert_is_chosen_if_the_number_is_left_out(library: Library, rng: np.random.Generator) -> None:
    experts = expert_block(rng, 4, 1, 64, 32)
    x, logits = rng.standard_normal((ROWS, 64)).astype(np.float32), rng.standard_normal((ROWS, 4)).astype(np.float32)
    inputs: Arrays = {}
    for name, matrices in (("up", experts.up), ("down", experts.down)):
        inputs[name] = np.stack([matrix.weights for matrix in matrices])
        inputs[f"{name}_scales"] = np.stack([matrix.scales.astype(np.float32) for matrix in matrices])
        inputs[f"{name}_bias"] = np.empty(0)
    sizes = {"expert_weight_bits": 4, "block_size": 32, "normalize_routing_weights": 1}
    original = graph("QMoE", x, inputs, {"logits": logits}, activation_type="swiglu", swiglu_fusion=1, **sizes)
    compare(library, original, {"x": x, "logits": logits}, 0.02)
