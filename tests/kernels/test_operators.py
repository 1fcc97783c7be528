"""The operators as onnxruntime runs them: on its threads, in its graphs, and their refusals."""

from __future__ import annotations

import ctypes
import itertools
from ctypes import CFUNCTYPE, c_char_p, c_int, c_uint32, c_void_p, cast
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from server.runtime.native.library import Library
from tests.kernels.reference import Direct, expert_block, quantized

Arrays = dict[str, NDArray[Any]]


def session(
    library: Library, op: str, x_shape: list[Any], inputs: Arrays, threads: int = 2, **attributes: int
) -> ort.InferenceSession:
    """A graph of one operator, whose inputs but x, `logits` and `past` are constants."""
    free = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)]
    for name in inputs.keys() & {"logits", "past"}:
        shape = [None, *inputs[name].shape[1:]]
        free.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    constants = [
        numpy_helper.from_array(array, name) for name, array in inputs.items() if name not in ("logits", "past")
    ]
    outputs = ["y", "trace", "present"] if op == "Convolution" else ["y"]
    node = helper.make_node(op, ["x", *inputs], outputs, domain="lfm", **attributes)
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("lfm", 1)]
    model = helper.make_model(
        helper.make_graph([node], "one", free, results, constants), opset_imports=opsets, ir_version=10
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.register_custom_ops_library(str(library.path))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_a_product_has_the_same_bits_on_any_number_of_threads(
    library: Library, rng: np.random.Generator, threads: int, rows: int
) -> None:
    matrix = quantized(rng, 300, 500, zeros=True)
    packed = matrix.packed(library)
    bias = rng.standard_normal(300).astype(np.float32)
    attributes = {"columns": 300, "depth": 500, "bits": 4, "zero_points": 1}
    run = session(library, "MatMul", ["b", "s", 500], {"w": packed, "bias": bias}, threads, **attributes)
    x = rng.standard_normal((1, rows, 500)).astype(np.float32)
    (y,) = run.run(None, {"x": x})
    assert y.shape == (1, rows, 300)
    np.testing.assert_array_equal(y[0], library.matmul(matrix.form, packed, x[0], bias))
    assert run.get_outputs()[0].shape == ["b", "s", 300]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_experts_have_the_same_bits_on_any_number_of_threads(
    library: Library, direct: Direct, rng: np.random.Generator, threads: int, rows: int
) -> None:
    block = expert_block(rng, 8, 2, 160, 96, zeros=True)
    up, down = block.packed(library)
    x = rng.standard_normal((1, rows, 160)).astype(np.float32)
    logits = rng.standard_normal((rows, 8)).astype(np.float32)
    sizes = {"experts": 8, "chosen": 2, "hidden": 160, "inner": 96, "up_zero_points": 1, "down_zero_points": 1}
    run = session(library, "Experts", ["b", "s", 160], {"logits": logits, "up": up, "down": down}, threads, **sizes)
    (y,) = run.run(None, {"x": x, "logits": logits})
    np.testing.assert_array_equal(y[0], direct.experts(block, x[0], logits, library.isa))
    assert run.get_outputs()[0].shape == ["b", "s", 160]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_router_has_the_same_bits_on_any_number_of_threads(
    library: Library, direct: Direct, rng: np.random.Generator, threads: int
) -> None:
    weights, bias = rng.standard_normal((8, 64)).astype(np.float32), rng.standard_normal(8).astype(np.float32)
    x = rng.standard_normal((2, 30, 64)).astype(np.float32)
    run = session(library, "Router", ["b", "s", 64], {"w": weights, "bias": bias}, threads, chosen=3)
    (y,) = run.run(None, {"x": x})
    expected = direct.router(weights, bias, 3, np.ascontiguousarray(x.reshape(60, 64)), library.isa)
    np.testing.assert_array_equal(y, expected)


def test_the_portable_kernels_can_be_chosen(library: Library, rng: np.random.Generator) -> None:
    matrix = quantized(rng, 64, 128)
    packed = matrix.packed(library)
    isa = library.isas["portable"]
    run = session(library, "MatMul", [None, 128], {"w": packed}, columns=64, depth=128, isa=isa)
    x = rng.standard_normal((5, 128)).astype(np.float32)
    np.testing.assert_array_equal(run.run(None, {"x": x})[0], library.matmul(matrix.form, packed, x, isa="portable"))


def test_no_rows_give_no_rows(library: Library, rng: np.random.Generator) -> None:
    packed = quantized(rng, 64, 128).packed(library)
    run = session(library, "MatMul", [None, 128], {"w": packed}, columns=64, depth=128)
    assert run.run(None, {"x": np.empty((0, 128), np.float32)})[0].shape == (0, 64)


@pytest.mark.parametrize(
    ("attributes", "bytes_missing", "reason"),
    [
        ({"columns": 64, "depth": 128}, 1, "packed weights of another size"),
        ({"columns": 64, "depth": 256}, 0, "the last dimension"),
        ({"columns": 64, "depth": 128, "bits": 8}, 0, "packed weights of another size"),
    ],
)
def test_operands_that_do_not_fit_are_refused(
    library: Library, rng: np.random.Generator, attributes: dict[str, int], bytes_missing: int, reason: str
) -> None:
    packed = quantized(rng, 64, 128).packed(library)
    run = session(library, "MatMul", [None, 128], {"w": packed[: len(packed) - bytes_missing]}, **attributes)
    with pytest.raises(Exception, match=reason):
        run.run(None, {"x": np.ones((1, 128), np.float32)})


@pytest.mark.parametrize("attributes", [{"bits": 5}, {"isa": 99}, {"zero_points": 2}, {"columns": -1}])
def test_attributes_out_of_range_are_refused(
    library: Library, rng: np.random.Generator, attributes: dict[str, int]
) -> None:
    packed = quantized(rng, 64, 128).packed(library)
    with pytest.raises(Exception, match=r"lfm kernels"):
        session(library, "MatMul", [None, 128], {"w": packed}, **{"columns": 64, "depth": 128, **attributes})


@pytest.mark.parametrize("op", ["MatMul", "Experts"])
def test_a_size_that_is_missing_is_refused(library: Library, op: str) -> None:
    x, empty = np.zeros((3, 0), np.float32), np.zeros(0, np.uint8)
    inputs = {"logits": x, "up": empty, "down": empty} if op == "Experts" else {"w": empty}
    attributes = {"chosen": 1} if op == "Experts" else {"columns": 8}
    run = session(library, op, [None, 0], inputs, **attributes)
    with pytest.raises(Exception, match="is missing"):
        run.run(None, {value.name: x for value in run.get_inputs()})


@pytest.mark.parametrize("op", ["MatMul", "Experts", "Router", "Convolution"])
def test_a_bias_without_dimensions_is_refused(library: Library, rng: np.random.Generator, op: str) -> None:
    """Such a bias has a single value. The kernels read one value per column."""
    packed = quantized(rng, 16, 32).packed(library)
    up, down = expert_block(rng, 2, 1, 32, 32).packed(library)
    x, weights = np.zeros((1, 32), np.float32), np.zeros((2, 32), np.float32)
    past, taps = np.zeros((1, 32, 3), np.float32), np.zeros((32, 1, 3), np.float32)
    inputs: dict[str, Arrays] = {
        "MatMul": {"w": packed},
        "Experts": {"logits": x[:, :2], "up": up, "down": down},
        "Router": {"w": weights},
        "Convolution": {"past": past, "weight": taps},
    }
    attributes = {
        "MatMul": {"columns": 16, "depth": 32},
        "Experts": {"experts": 2, "chosen": 1, "hidden": 32, "inner": 32},
        "Router": {"chosen": 1},
        "Convolution": {},
    }
    if op == "Convolution":
        x = np.zeros((1, 1, 96), np.float32)
    run = session(library, op, list(x.shape), inputs[op] | {"bias": np.array(1, np.float32)}, **attributes[op])
    feeds = {"x": x} | {name: inputs[op][name] for name in ("logits", "past") if name in inputs[op]}
    with pytest.raises(Exception, match="of another size"):
        run.run(None, feeds)


def test_an_instruction_set_that_this_cpu_lacks_is_refused(library: Library, rng: np.random.Generator) -> None:
    names = itertools.takewhile(bool, map(library.functions.lfm_isa_name, itertools.count()))
    lacking = [index for index, _ in enumerate(names) if index not in library.isas.values()]
    if not lacking:
        pytest.skip("this CPU has every instruction set of the library")
    packed = quantized(rng, 64, 128).packed(library)
    with pytest.raises(Exception, match="this CPU lacks the instruction set"):
        session(library, "MatMul", [None, 128], {"w": packed}, columns=64, depth=128, isa=lacking[0])


def test_an_onnxruntime_that_is_too_old_is_refused(library: Library) -> None:
    """It offers only the oldest version of its interface."""
    messages: list[bytes] = []

    @CFUNCTYPE(c_void_p, c_int, c_char_p)
    def create_status(_: int, message: bytes) -> int:
        messages.append(message)
        return 1

    interface = (c_void_p * 1)(cast(create_status, c_void_p))

    @CFUNCTYPE(c_void_p, c_uint32)
    def get_api(version: int) -> int | None:
        return ctypes.addressof(interface) if version == 1 else None

    register = ctypes.CDLL(str(library.path)).RegisterCustomOps
    register.restype = c_void_p
    assert register(None, (c_void_p * 1)(cast(get_api, c_void_p))) == 1
    assert messages == [b"lfm kernels: this onnxruntime is too old"]
