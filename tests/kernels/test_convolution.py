"""The short convolution as one operator, against float64, and in graphs of different exporters."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from server.runtime.graph import Graph
from server.runtime.native.convolution import replace_convolutions
from server.runtime.native.library import Library
from server.runtime.native.nodes import DOMAIN
from server.runtime.native.packing import pack_in_memory
from server.runtime.native.tensors import Weights
from tests.kernels.graphs import build, operators
from tests.kernels.test_operators import session

Array = NDArray[np.float32]


def expected(projected: Array, past: Array, weight: Array, bias: Array | None) -> list[NDArray[np.float64]]:
    gate_in, gate_out, value = np.split(projected.astype(np.float64), 3, axis=-1)
    trace = np.concatenate([past.astype(np.float64).transpose(0, 2, 1), gate_in * value], axis=1)
    (_, length, _), taps = projected.shape, weight.shape[-1]
    first = trace.shape[1] - length - taps + 1
    summed = sum(trace[:, first + tap : first + tap + length] * weight[:, 0, tap] for tap in range(taps))
    gated = gate_out * (summed + (0 if bias is None else bias))
    return [gated, trace, trace[:, trace.shape[1] - past.shape[2] :].transpose(0, 2, 1)]


def convolution(library: Library, past: Array, weight: Array, threads: int = 2) -> ort.InferenceSession:
    return session(library, "Convolution", ["b", "s", None], {"past": past, "weight": weight}, threads)


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("columns", "taps"), [(3, 3), (2, 3), (4, 4), (1, 1), (16, 16)])
@pytest.mark.parametrize(("batch", "length", "hidden"), [(1, 1, 64), (3, 1, 100), (1, 40, 2048), (2, 7, 5)])
def test_the_convolution_equals_float64(
    library: Library,
    rng: np.random.Generator,
    batch: int,
    length: int,
    hidden: int,
    columns: int,
    taps: int,
    with_bias: bool,
) -> None:
    weight, bias = normal(rng, hidden, 1, taps), normal(rng, hidden) if with_bias else None
    projected, past = normal(rng, batch, length, 3 * hidden), normal(rng, batch, hidden, columns)
    inputs = {"past": past, "weight": weight} | ({} if bias is None else {"bias": bias})
    found = session(library, "Convolution", ["b", "s", None], inputs).run(None, {"x": projected, "past": past})
    for one, other in zip(found, expected(projected, past, weight, bias), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_sequence_has_the_same_bits_alone_and_in_a_batch_on_any_number_of_threads(
    library: Library, rng: np.random.Generator, threads: int
) -> None:
    weight, projected, past = normal(rng, 256, 1, 3), normal(rng, 4, 60, 768), normal(rng, 4, 256, 3)
    run, run_alone = (convolution(library, past, weight, number) for number in (threads, 1))
    together = run.run(None, {"x": projected, "past": past})
    for row in range(4):
        one = {"x": projected[row : row + 1], "past": past[row : row + 1]}
        for alone, all_rows in zip(run_alone.run(None, one), together, strict=True):
            np.testing.assert_array_equal(alone[0], all_rows[row])


def test_tokens_one_by_one_give_the_same_bits_as_all_at_once(library: Library, rng: np.random.Generator) -> None:
    weight, projected, past = normal(rng, 96, 1, 3), normal(rng, 1, 20, 288), normal(rng, 1, 96, 3)
    run = convolution(library, past, weight)
    at_once, _, state = run.run(None, {"x": projected, "past": past})
    for token in range(20):
        gated, _, past = run.run(None, {"x": projected[:, token : token + 1], "past": past})
        np.testing.assert_array_equal(gated[0, 0], at_once[0, token])
    np.testing.assert_array_equal(past, state)


def test_past_and_present_may_be_the_same_memory(library: Library, rng: np.random.Generator) -> None:
    weight, projected, past = normal(rng, 64, 1, 3), normal(rng, 2, 1, 192), normal(rng, 2, 64, 3)
    run = convolution(library, past, weight)
    gated, _, present = run.run(None, {"x": projected, "past": past})
    state = ort.OrtValue.ortvalue_from_numpy(past)
    binding = run.io_binding()
    binding.bind_cpu_input("x", projected)
    binding.bind_ortvalue_input("past", state)
    binding.bind_output("y")
    binding.bind_output("trace")
    binding.bind_ortvalue_output("present", state)
    run.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], gated)
    np.testing.assert_array_equal(state.numpy(), present)


@pytest.mark.parametrize(
    ("projected", "past", "weight", "reason"),
    [
        ((1, 2, 190), (1, 64, 3), (64, 1, 3), "three times as wide"),
        ((2, 2, 192), (1, 64, 3), (64, 1, 3), "another batch size"),
        ((1, 2, 192), (1, 64, 3), (60, 1, 3), "weights of another shape"),
        ((1, 2, 192), (1, 64, 1), (64, 1, 3), "too many taps"),
    ],
)
def test_operands_that_do_not_fit_are_refused(
    library: Library, projected: tuple[int, ...], past: tuple[int, ...], weight: tuple[int, ...], reason: str
) -> None:
    state = np.zeros(past, np.float32)
    run = convolution(library, state, np.zeros(weight, np.float32))
    with pytest.raises(Exception, match=reason):
        run.run(None, {"x": np.zeros(projected, np.float32), "past": state})


@pytest.fixture(scope="module", params=["q4", "q4f16", "genai"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return build(request.param, tmp_path_factory.mktemp("models") / request.param)


def test_every_convolution_becomes_one_operator(graph: Graph, library: Library) -> None:
    found = operators(pack_in_memory(graph, library))
    assert found[DOMAIN, "Convolution"] == 2
    assert not found["", "Split"] + found["", "Transpose"]


def test_nodes_that_compute_other_values_stay(graph: Graph, library: Library) -> None:
    """A gate of another sign, say: the nodes look the same."""
    model = onnx.load_from_string(graph.model)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    for node in model.graph.node:
        if node.op_type == "Split":
            node.output[:] = [node.output[1], node.output[0], node.output[2]]
    before = len(model.graph.node)
    replace_convolutions(model, Weights(model.graph, graph.weights), library)
    assert len(model.graph.node) == before
