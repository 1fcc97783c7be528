"""The layers after the last attention compute only the positions that results depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from server.errors import PreparationError
from server.runtime.contract import KEPT_POSITIONS, TRACE_PREFIX, StateKind
from server.runtime.native.library import Library
from server.runtime.native.packing import pack_in_memory
from server.runtime.prepared_copy.agreement import compare
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool
from tests.kernels.graphs import build
from tests.models import Rewrite, all_positions, explicit_positions, fused_convolutions

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


def test_skipping_positions_changes_no_bit(session: ModelSession) -> None:
    found, expected = prefill(session, every_position=False), prefill(session, every_position=True)
    convolutions = sum(state.kind is StateKind.CONV for state in session.contract.states)
    assert len(found) == len(expected) == 3 + 2 * len(CHECKPOINTS) * convolutions
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_tail_computes_few_positions(session: ModelSession) -> None:
    look_back = sum(state.shape[1] for state in session.contract.states if state.in_tail)
    at_the_end = list(range(49 - look_back, 50))
    checkpoints = list(range(39 - look_back, 41)) if look_back else []
    assert session.contract.kept_positions(50, ()).tolist() == at_the_end
    assert session.contract.kept_positions(50, (40, 41)).tolist() == checkpoints + at_the_end
    assert session.contract.kept_positions(1, ()).tolist() == [0]


def test_convolutions_after_the_last_attention_are_in_the_tail(native: Library, tmp_path: Path) -> None:
    graph = build("q4", tmp_path / "model", layer_types=TWO_CONVOLUTIONS_LAST)
    contract = ModelSession(pack_in_memory(graph, native), SessionOptions(1, 64)).contract
    assert [state.past for state in contract.states if state.in_tail] == ["past_conv.4", "past_conv.5"]


def test_a_prepared_copy_that_skips_too_much_is_refused(native: Library, tmp_path: Path) -> None:
    """Without the names of these axes, the session does not know which convolutions are in the tail."""
    graph = build("q4", tmp_path / "model", layer_types=TWO_CONVOLUTIONS_LAST)
    packed = pack_in_memory(graph, native)
    model = onnx.load_from_string(packed.model)
    for output in model.graph.output:
        if output.name.startswith(TRACE_PREFIX):
            output.type.tensor_type.shape.dim[1].dim_param = "length"
    compare(graph, packed, TOKENS.tolist(), threads=1)
    with pytest.raises(PreparationError, match="skips positions"):
        compare(graph, replace(packed, model=model.SerializeToString()), TOKENS.tolist(), threads=1)


def apply_to_logits(operator: str) -> Rewrite:
    """Apply an operator with one input to the logits."""

    def rewrite(model: onnx.ModelProto) -> None:
        last = next(node for node in model.graph.node if "logits" in node.output)
        last.output[0] = "logits/before"
        axis = {} if operator in ("Exp", "Tanh") else {"axis": 1}
        model.graph.node.append(helper.make_node(operator, ["logits/before"], ["logits"], **axis))

    return rewrite


@pytest.mark.parametrize("operator", ["Softmax", "LpNormalization", "Exp", "Tanh"])
def test_an_unknown_operator_leaves_the_tail_as_it_is(operator: str, native: Library, tmp_path: Path) -> None:
    """Softmax and LpNormalization mix positions. The others do not, but they are not on the list."""
    assert not is_shortened(native, tmp_path, all_positions, apply_to_logits(operator))


def change_slice(index: int, value: int | None) -> Rewrite:
    """Replace an input of the Slice that keeps the last positions; None drops it."""

    def rewrite(model: onnx.ModelProto) -> None:
        kept = [node for node in model.graph.node if node.op_type == "Slice"][-1]
        if value is None:
            kept.input.pop(index)
            return
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), "other"))
        kept.input[index] = "other"

    return rewrite


@pytest.mark.parametrize(
    ("index", "value"), [(1, -1), (2, -1), (3, 2), (3, None)], ids=["start", "end", "axis", "no axis"]
)
def test_a_slice_with_another_range_leaves_the_tail_as_it_is(
    index: int, value: int | None, native: Library, tmp_path: Path
) -> None:
    assert not is_shortened(native, tmp_path, change_slice(index, value))


def add_to_residual(*nodes: onnx.NodeProto) -> Rewrite:
    """Add a value `other`, computed by `nodes`, to the hidden state after the last attention."""

    def rewrite(model: onnx.ModelProto) -> None:
        attention = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"][-1]
        after = list(model.graph.node).index(attention)
        residual = next(node for node in list(model.graph.node)[after:] if node.op_type == "Add")
        at, result = list(model.graph.node).index(residual) + 1, residual.output[0]
        residual.output[0] = "residual/before"
        added = helper.make_node("Add", ["residual/before", "other"], [result])
        for node in (added, *reversed(nodes)):
            model.graph.node.insert(at, node)

    return rewrite


@pytest.mark.parametrize("keepdims", [0, 1], ids=["a scalar", "one row for all positions"])
def test_a_residual_without_a_row_per_position_leaves_the_tail_as_it_is(
    keepdims: int, native: Library, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["sizes"], ["other"], keepdims=keepdims),
    ]
    assert not is_shortened(native, tmp_path, add_to_residual(*nodes))


def test_a_graph_of_known_operators_is_shortened(native: Library, tmp_path: Path) -> None:
    assert is_shortened(native, tmp_path)


def is_shortened(library: Library, folder: Path, *rewrites: Rewrite) -> bool:
    graph = build("q4", folder / "model", layer_types=TWO_CONVOLUTIONS_LAST, more_rewrites=rewrites)
    packed = onnx.load_from_string(pack_in_memory(graph, library).model)
    return KEPT_POSITIONS in {value.name for value in packed.graph.input}
