"""Graphs whose layers run on the native kernels: rewritten node by node, packed in memory or in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from server.errors import PreparationError
from server.runtime.graph import Graph
from server.runtime.native import packing
from server.runtime.native.library import Library
from server.runtime.native.packing import pack_in_memory, pack_into
from server.runtime.native.tensors import Weights
from server.runtime.native.widening import widen
from server.runtime.prepared_copy.lookup import copy_graph
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool
from tests.kernels.graphs import build, operators

TOKENS = np.random.default_rng(0).integers(8, 1000, (6, 24))


@pytest.fixture(scope="module", params=["q4", "q4f16"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return build(request.param, tmp_path_factory.mktemp("models") / request.param)


def log_probabilities(graph: Graph, chunk: int) -> np.ndarray:
    """After each token of the first prompt, which is prefilled in chunks."""
    session = ModelSession(graph, SessionOptions(1, 64))
    slots = SlotPool(session.contract.states, 1, 32)
    slots.clear(0)
    prompt = TOKENS[:1]
    starts = range(0, prompt.shape[1], chunk)
    runs = (
        session.run(slots, 0, prompt[:, start : start + chunk], np.array([start]), every_position=True)
        for start in starts
    )
    values = np.concatenate([run.copy() for run in runs]).astype(np.float64)
    return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))


def logits(graph: Graph, threads: int = 1, rows: slice = slice(0, 1), length: int = 24) -> np.ndarray:
    """After each prompt's first `length` - 1 tokens in one chunk each, and a decode batch of all prompts."""
    session = ModelSession(graph, SessionOptions(threads, 64))
    prompts = TOKENS[rows, :length]
    slots = SlotPool(session.contract.states, len(prompts), 32)
    for slot, prompt in enumerate(prompts):
        slots.clear(slot)
        session.run(slots, slot, prompt[None, :-1], np.array([0]))
    return session.run(slots, 0, prompts[:, -1:], np.full(len(prompts), length - 1)).copy()


def test_every_quantized_layer_becomes_a_native_one(graph: Graph, library: Library) -> None:
    found = operators(pack_in_memory(graph, library))
    before = operators(graph)
    assert found["lfm", "MatMul"] == before["com.microsoft", "MatMulNBits"]
    assert found["lfm", "Experts"] == before["com.microsoft", "QMoE"] == 3
    assert not found["com.microsoft", "MatMulNBits"] + found["com.microsoft", "QMoE"]


def test_the_routers_of_our_exports_become_one_operator_each(graph: Graph, library: Library) -> None:
    found = operators(pack_in_memory(graph, library))
    assert found["lfm", "Router"] == 3
    assert not found["", "TopK"] + found["", "ScatterElements"] + found["com.microsoft", "FusedMatMul"]


def test_the_logits_are_those_of_onnxruntime_to_int8_rounding(graph: Graph, library: Library) -> None:
    model = onnx.load_from_string(graph.model)
    widen(model.graph, Weights(model.graph, graph.weights))  # onnxruntime's float16 would add its own rounding
    wide = replace(graph, model=model.SerializeToString())
    native, reference = logits(pack_in_memory(graph, library)), logits(wide)
    assert np.abs(native - reference).max() < 0.1 * reference.std()


def test_a_file_gives_the_same_logits_as_memory(graph: Graph, library: Library, tmp_path: Path) -> None:
    model = pack_into(graph, tmp_path, "weights", library, 2, lambda written: None)
    copy = copy_graph("copy", model, tmp_path, native=True)
    np.testing.assert_array_equal(logits(copy), logits(pack_in_memory(graph, library)))
    offsets = [
        e.value for t in onnx.load_from_string(model).graph.initializer for e in t.external_data if e.key == "offset"
    ]
    assert offsets
    assert not any(int(offset) % 4096 for offset in offsets)


def test_routers_of_other_exports_are_written_to_the_file(
    graph: Graph, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have their weights transposed, and real ones are too large to stay in the graph."""
    model = onnx.load_from_string(graph.model)
    weights = Weights(model.graph, graph.weights)
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            transposed = np.ascontiguousarray(weights.array(node.input[1]).T)
            model.graph.initializer.append(numpy_helper.from_array(transposed, f"{node.input[1]}/other"))
            node.CopyFrom(onnx.helper.make_node("MatMul", [node.input[0], f"{node.input[1]}/other"], node.output))
    other = replace(graph, model=model.SerializeToString())
    monkeypatch.setattr(packing, "INLINE_BYTES", 1000)
    copy = copy_graph("copy", pack_into(other, tmp_path, "weights", library, 2, lambda written: None), tmp_path, True)
    same = pack_in_memory(graph, library)
    assert operators(copy)["lfm", "Router"] == operators(same)["lfm", "Router"]
    np.testing.assert_array_equal(logits(copy), logits(same))


def test_a_table_whose_type_has_four_bits_is_written_as_it_is(graph: Graph, library: Library, tmp_path: Path) -> None:
    """Some exporters store the embedding table as UINT4: two values in a byte, which numpy does not know."""
    model = onnx.load_from_string(graph.model)
    table = next(node for node in model.graph.node if node.op_type == "GatherBlockQuantized")
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for index in (0, 3):  # the values and the zero points; the head has the same, of another type
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(initializers[table.input[index]])
        tensor.name = table.input[index] = f"{tensor.name}/uint4"
        tensor.data_type, tensor.dims[1] = onnx.TensorProto.UINT4, 2 * tensor.dims[1]
    table.attribute.remove(next(attribute for attribute in table.attribute if attribute.name == "bits"))
    other = replace(graph, model=model.SerializeToString())
    copy = copy_graph("copy", pack_into(other, tmp_path, "weights", library, 2, lambda written: None), tmp_path, True)
    in_memory = Weights(onnx.load_from_string(copy.model).graph, tmp_path).external()
    expected = logits(pack_in_memory(graph, library))
    for found in (pack_in_memory(other, library), copy, replace(copy, tensors=in_memory)):
        np.testing.assert_array_equal(logits(found), expected)


def test_values_that_only_a_subgraph_reads_are_kept(graph: Graph, library: Library) -> None:
    model = onnx.load_from_string(graph.model)
    norm = next(node for node in model.graph.node if node.op_type == "SimplifiedLayerNormalization")
    branches = {
        name: onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", [norm.input[1]], [name])],
            name,
            [],
            [onnx.ValueInfoProto(name=name)],
        )
        for name in ("then_branch", "else_branch")
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.insert(0, onnx.helper.make_node("If", ["condition"], ["chosen"], **branches))
    norm.input[1] = "chosen"
    other = replace(graph, model=model.SerializeToString())
    np.testing.assert_array_equal(logits(pack_in_memory(other, library)), logits(pack_in_memory(graph, library)))


def test_a_sequence_has_the_same_logits_alone_and_in_any_batch(graph: Graph, library: Library) -> None:
    packed = pack_in_memory(graph, library)
    together = logits(packed, rows=slice(0, 6))
    for row in range(6):
        np.testing.assert_array_equal(logits(packed, rows=slice(row, row + 1))[0], together[row])
    np.testing.assert_array_equal(logits(packed, rows=slice(1, 4)), together[1:4])


@pytest.mark.parametrize("chunk", [1, 5])
def test_other_chunks_change_probabilities_within_int8_rounding(graph: Graph, library: Library, chunk: int) -> None:
    packed = pack_in_memory(graph, library)
    whole, parts = (log_probabilities(packed, size) for size in (TOKENS.shape[1], chunk))
    assert (np.exp(whole) * (whole - parts)).sum(axis=-1).mean() < 1e-3


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(graph: Graph, library: Library, threads: int) -> None:
    packed = pack_in_memory(graph, library)
    np.testing.assert_array_equal(logits(packed, threads, slice(0, 6)), logits(packed, 1, slice(0, 6)))


def test_a_fault_in_packing_is_found(
    graph: Graph, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> np.ndarray:
        packed = real(*_)  # type: ignore[arg-type]
        packed[100::576] ^= 16
        return packed

    real = library.pack
    monkeypatch.setattr(
        packing,
        "_packed",
        lambda matrix, weights, lib, pool=None: (
            wrong(matrix.form, *packing._source(matrix, weights, i), matrix.rows, matrix.block, matrix.gated)
            for i in range(matrix.count)
        ),
    )
    with pytest.raises(PreparationError, match="differ"):
        pack_into(graph, tmp_path, "weights", library, 1, lambda written: None)
