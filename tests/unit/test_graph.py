"""A rewritten graph computes the same as the original, and returns the state after any of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from server.runtime.contract import StateKind, discover
from server.runtime.graph import Graph, Precision, load, load_original
from server.runtime.model_folder import open_model_folder
from tests import models

TOKENS = np.random.default_rng(0).integers(8, 1000, (2, 12))
CONVOLUTIONAL = [kind for kind in models.KINDS if kind not in models.WITHOUT_CONVOLUTIONS]
HEAD_DIM = 16

Values = dict[str, NDArray[Any]]


class Runner:
    """Runs a graph as it is, by the names of its inputs and outputs."""

    def __init__(self, graph: Graph) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights))
        self._session = ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
        self.contract = discover(self._session.get_inputs(), self._session.get_outputs(), HEAD_DIM)

    def start(self, batch: int = 1) -> Values:
        shapes = {s.past: (batch, s.shape[0], 0, s.shape[1]) for s in self.contract.states if s.kind is StateKind.KV}
        shapes |= {s.past: (batch, *s.shape) for s in self.contract.states if s.kind is StateKind.CONV}
        return {s.past: np.zeros(shapes[s.past], s.dtype) for s in self.contract.states}

    def step(self, tokens: NDArray[np.int64], state: Values, past: int = 0) -> tuple[Values, Values]:
        """All outputs, and the state after the tokens [batch, length]."""
        length = tokens.shape[1]
        feeds: Values = {
            "input_ids": tokens,
            "attention_mask": np.ones((len(tokens), past + length), np.int64),
            "position_ids": np.tile(np.arange(past, past + length), (len(tokens), 1)),
            "num_logits_to_keep": np.array(length),
        }
        feeds = {name: value for name, value in feeds.items() if name in self.contract.token_dtypes}
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(names, feeds | state), strict=True))
        return outputs, {s.past: outputs[s.present] for s in self.contract.states}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The graph file of each kind of tiny model."""
    root = tmp_path_factory.mktemp("models")
    return {kind: open_model_folder(models.build(kind, root / kind)).graph for kind in models.KINDS}


@pytest.mark.parametrize("kind", models.KINDS)
def test_the_exact_graph_computes_what_the_original_computes(kind: str, graphs: dict[str, Path]) -> None:
    theirs, ours = Runner(load_original(graphs[kind])), Runner(load(graphs[kind], Precision.EXACT))
    tolerance = 1e-2 if "16" in kind else 1e-6
    their_state, our_state = theirs.start(batch=2), ours.start(batch=2)
    for begin, end in ((0, 9), (9, 10), (10, 11)):
        tokens = TOKENS[:, begin:end]
        expected, their_state = theirs.step(tokens, their_state, begin)
        found, our_state = ours.step(tokens, our_state, begin)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_a_trace_holds_the_state_after_each_token(kind: str, graphs: dict[str, Path]) -> None:
    runner = Runner(load(graphs[kind], Precision.EXACT))
    states = [state for state in runner.contract.states if state.kind is StateKind.CONV]
    _, before = runner.step(TOKENS[:1, :3], runner.start())
    traced, _ = runner.step(TOKENS[:1, 3:], before, past=3)
    assert states
    for last in range(TOKENS.shape[1] - 3):
        _, after = runner.step(TOKENS[:1, 3 : 4 + last], before, past=3)
        for state in states:
            assert state.trace is not None
            rows = traced[state.trace][:, last + 1 : last + 1 + state.shape[1]]
            tolerance = 1e-2 if "16" in kind else 1e-5
            np.testing.assert_allclose(rows.swapaxes(1, 2), after[state.past], rtol=0, atol=tolerance)


def test_a_graph_without_convolutions_has_no_traces(graphs: dict[str, Path]) -> None:
    states = Runner(load(graphs["attention-only"], Precision.EXACT)).contract.states
    assert states
    assert all(state.trace is None for state in states)


def test_a_graph_that_makes_its_window_in_another_way_has_no_traces_and_runs(graphs: dict[str, Path]) -> None:
    model = onnx.load(graphs["dense"], load_external_data=False)
    for node in list(model.graph.node):
        if node.op_type == "Concat" and node.input[0].startswith("past_conv"):
            copy = f"{node.input[0]}/copy"
            model.graph.node.insert(0, onnx.helper.make_node("Identity", node.input[:1], [copy]))
            node.input[0] = copy
    path = graphs["dense"].with_name("model_indirect.onnx")
    onnx.save(model, path)
    theirs, ours = Runner(load_original(path)), Runner(load(path, Precision.EXACT))
    assert all(state.trace is None for state in ours.contract.states)
    expected, _ = theirs.step(TOKENS, theirs.start(2))
    found, _ = ours.step(TOKENS, ours.start(2))
    np.testing.assert_array_equal(found["logits"], expected["logits"])


@pytest.mark.parametrize(("taps", "pads"), [(3, [2, 0]), (2, [0, 0])])
def test_other_convolutions_of_the_window_stay_what_they_are(
    taps: int, pads: list[int], graphs: dict[str, Path], tmp_path: Path
) -> None:
    """A padded Conv is left to onnxruntime, a shorter one is a shorter sum; both are traced."""
    model = onnx.load(graphs["dense"])
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
            values = onnx.numpy_helper.to_array(weight)[:, :, :taps]
            weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
            node.attribute.extend([onnx.helper.make_attribute("pads", pads)])
            next(a for a in node.attribute if a.name == "kernel_shape").ints[:] = [taps]
            tail = next(other for other in model.graph.node if node.output[0] in other.input)
            skipped = onnx.numpy_helper.from_array(np.array([1 + 3 - taps + pads[0]]), f"{tail.name}/start")
            model.graph.initializer.append(skipped)
            tail.input[1] = skipped.name
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    theirs, ours = Runner(load_original(path)), Runner(load(path, Precision.EXACT))
    expected, _ = theirs.step(TOKENS, theirs.start(2))
    found, _ = ours.step(TOKENS, ours.start(2))
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-6)
    assert any(state.trace for state in ours.contract.states)


@pytest.mark.parametrize("kind", ["q4", "q4f16"])
def test_fast_rounds_activations_and_stays_near_exact(kind: str, graphs: dict[str, Path]) -> None:
    exact, fast = (Runner(load(graphs[kind], precision)) for precision in (Precision.EXACT, Precision.FAST))
    expected, _ = exact.step(TOKENS, exact.start(2))
    found, _ = fast.step(TOKENS, fast.start(2))
    difference = np.abs(found["logits"] - expected["logits"]).mean()
    assert 0 < difference < 0.2 * expected["logits"].std()


def test_the_silu_of_a_fused_convolution_is_kept(graphs: dict[str, Path]) -> None:
    model = onnx.load(graphs["genai"], load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "CausalConvWithState":
            node.attribute[0].s = b"silu"
    path = graphs["genai"].with_name("model_silu.onnx")
    onnx.save(model, path)
    theirs, ours = Runner(load_original(path)), Runner(load(path, Precision.EXACT))
    expected, _ = theirs.step(TOKENS, theirs.start(2))
    found, _ = ours.step(TOKENS, ours.start(2))
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-5)
