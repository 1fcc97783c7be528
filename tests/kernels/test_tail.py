"""The layers after the last attention compute only the positions that results depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from server.runtime.contract import KEPT_POSITIONS, StateKind
from server.runtime.graph import Graph
from server.runtime.native.library import Library
from server.runtime.native.packing import pack_in_memory
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool
from tests.kernels.graphs import build
from tests.models import all_positions, explicit_positions, fused_convolutions

TOKENS = np.random.default_rng(0).integers(8, 1000, 80)
CHECKPOINTS = (1, 4, 30, 31)
TWO_CONVOLUTIONS_LAST = ["conv", "full_attention", "conv", "full_attention", "conv", "conv"]
NO_CONVOLUTION_LAST = ["conv", "full_attention"]
MODELS = {
    "two convolutions": ("q4", TWO_CONVOLUTIONS_LAST, ()),
    "no convolution": ("q4", NO_CONVOLUTION_LAST, ()),
    "attention only": ("q4", ["full_attention"] * 2, ()),
    "float16": ("q4f16", TWO_CONVOLUTIONS_LAST, ()),
    "all positions": ("q4", TWO_CONVOLUTIONS_LAST, (all_positions, explicit_positions)),
    "fused convolutions": ("q4", TWO_CONVOLUTIONS_LAST, (all_positions, fused_convolutions)),
}


@pytest.fixture(scope="module", params=MODELS)
def session(request: pytest.FixtureRequest, native: Library, tmp_path_factory: pytest.TempPathFactory) -> ModelSession:
    kind, layer_types, rewrites = MODELS[request.param]
    folder = tmp_path_factory.mktemp("models") / "model"
    graph = build(kind, folder, layer_types=layer_types, more_rewrites=rewrites)
    return ModelSession(pack_in_memory(graph, native), SessionOptions(1, 64))


def prefill(session: ModelSession, every_position: bool) -> list[NDArray[np.generic]]:
    """Prefill two chunks and decode a token. Returns all logits, and the windows after CHECKPOINTS of both chunks."""
    slots = SlotPool(session.contract.states, 1, 96)
    slots.clear(0)
    results: list[NDArray[np.generic]] = []
    for begin, end in ((0, 32), (32, 79), (79, 80)):
        checkpoints = CHECKPOINTS if end - begin > 1 else ()
        tokens, past = TOKENS[None, begin:end], np.array([begin])
        results.append(session.run(slots, 0, tokens, past, every_position, checkpoints)[-1].copy())
        for count in checkpoints:
            results += [window.copy() for window in session.windows_after(count).values()]
    return results


def test_what_is_left_out_changes_no_bit(session: ModelSession) -> None:
    found, expected = prefill(session, every_position=False), prefill(session, every_position=True)
    convolutions = sum(state.kind is StateKind.CONV for state in session.contract.states)
    assert len(found) == len(expected) == 3 + 2 * len(CHECKPOINTS) * convolutions
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_tail_computes_few_positions(session: ModelSession) -> None:
    columns = sum(state.shape[1] for state in session.contract.states if state.in_tail)
    assert session.contract.kept_positions(50, ()).tolist() == list(range(49 - columns, 50))
    assert session.contract.kept_positions(50, (40, 41)).tolist() == [
        *range(39 - columns, 41),
        *range(49 - columns, 50),
    ]
    assert session.contract.kept_positions(1, ()).tolist() == [0]
    assert session.contract.kept_positions(3, (1, 2)).tolist() == [0, 1, 2]


def test_the_convolutions_of_the_tail_are_known(native: Library, tmp_path: Path) -> None:
    graph = build("q4", tmp_path / "model", layer_types=TWO_CONVOLUTIONS_LAST)
    contract = ModelSession(pack_in_memory(graph, native), SessionOptions(1, 64)).contract
    assert [state.past for state in contract.states if state.in_tail] == ["past_conv.4", "past_conv.5"]


def insert_before_logits(*operators: str) -> Callable[[onnx.ModelProto], None]:
    """Run operators on the logits, which must have the same shape."""

    def rewrite(model: onnx.ModelProto) -> None:
        last = next(node for node in model.graph.node if "logits" in node.output)
        names = [*(f"logits/{i}" for i in range(len(operators))), "logits"]
        last.output[0] = names[0]
        for operator, name, result in zip(operators, names, names[1:], strict=False):
            axis = {"axis": 1} if operator in ("Softmax", "LpNormalization") else {}
            model.graph.node.append(helper.make_node(operator, [name], [result], **axis))

    return rewrite


@pytest.mark.parametrize("operator", ["Softmax", "LpNormalization", "Exp"])
def test_an_unknown_operator_leaves_the_tail_as_it_is(operator: str, native: Library, tmp_path: Path) -> None:
    """The first two mix positions."""
    rewrites = (all_positions, insert_before_logits(operator))
    graph = build("q4", tmp_path / "model", layer_types=TWO_CONVOLUTIONS_LAST, more_rewrites=rewrites)
    assert_unchanged(graph, native)


@pytest.mark.parametrize(
    ("index", "value"), [(1, "other"), (3, "axes")], ids=["other positions than the last", "another axis"]
)
def test_another_slice_leaves_the_tail_as_it_is(index: int, value: str, native: Library, tmp_path: Path) -> None:
    def rewrite(model: onnx.ModelProto) -> None:
        sliced = next(
            n for n in model.graph.node if n.op_type == "Slice" and "num_logits" in _source(model, n.input[1])
        )
        constant = {"other": [-1], "axes": [2]}[value]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(constant), value))
        sliced.input[index] = value

    model = onnx.load_from_string(build("q4", tmp_path / "model", layer_types=TWO_CONVOLUTIONS_LAST).model)
    rewrite(model)
    weights = build("q4", tmp_path / "same", layer_types=TWO_CONVOLUTIONS_LAST)
    assert_unchanged(replace(weights, model=model.SerializeToString()), native)


def _source(model: onnx.ModelProto, value: str) -> str:
    """The input of the graph from which a value is computed, through operators with one input."""
    producers = {name: node for node in model.graph.node for name in node.output}
    while value in producers:
        value = producers[value].input[0]
    return value


def assert_unchanged(graph: Graph, library: Library) -> None:
    packed = onnx.load_from_string(pack_in_memory(graph, library).model)
    assert KEPT_POSITIONS not in {value.name for value in packed.graph.input}
