"""The built-in model in 4 bits: the native kernels keep its text, and are no less exact than onnxruntime's int8."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from server.chat.tokenizer import Tokenizer
from server.export import export_checkpoint
from server.loading.model_choice import BUILT_IN
from server.prepare import TEXT, TEXT_TOKENS
from server.runtime.graph import Graph, Precision, load_original
from server.runtime.graph import load as load_graph
from server.runtime.model_folder import ModelFolder, open_model_folder
from server.runtime.native.library import LIBRARY, load_library
from server.runtime.native.packing import pack_in_memory
from server.runtime.prepared_copy.agreement import compare
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool
from tests.checkpoints import write_checkpoint
from tests.golden.golden_file import load
from tests.raw_session import RawSession

GOLDENS = Path(__file__).parents[1] / "golden" / "demo.npz"
ANSWER_TOKENS, MAX_LEN, EOS = 24, 512, 7

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the kernels are not compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The built-in model in 4 bits."""
    root = tmp_path_factory.mktemp("built-in")
    config = json.loads((BUILT_IN / "config.json").read_text())
    checkpoint = write_checkpoint(root / "checkpoint", config, built_in_tensors())
    export_checkpoint(checkpoint, root / "q4", "q4")
    return open_model_folder(root / "q4")


def built_in_tensors() -> dict[str, NDArray[np.float32]]:
    """Return the tensors of the checkpoint from which the built-in model was exported."""
    tensors: dict[str, NDArray[np.float32]] = {}
    for tensor in onnx.load(BUILT_IN / "onnx" / "model.onnx").graph.initializer:
        if not tensor.name.startswith("model."):
            continue
        name, value = tensor.name, numpy_helper.to_array(tensor).astype(np.float32)
        prefix, _, kind = name.rpartition(".")
        if kind == "gate_up":
            for i, rows in enumerate(value):
                tensors |= {f"{prefix}.{i}.w1.weight": rows[::2], f"{prefix}.{i}.w3.weight": rows[1::2]}
        elif kind == "down":
            tensors |= {f"{prefix}.{i}.w2.weight": rows for i, rows in enumerate(value)}
        else:
            tensors[name] = value
    return tensors


def native(folder: ModelFolder) -> Graph:
    return pack_in_memory(load_graph(folder.graph, Precision.FAST, native=True), load_library())


def answers(graph: Graph, prompts: list[list[int]]) -> list[list[int]]:
    """Return the greedy answers to `prompts`, of at most ANSWER_TOKENS tokens each."""
    session = ModelSession(graph, SessionOptions(threads=1, max_tokens=MAX_LEN))
    slots = SlotPool(session.contract.states, 1, MAX_LEN)
    found = []
    for prompt in prompts:
        slots.clear(0)
        logits = session.run(slots, 0, np.array([prompt]), np.array([0]))[0]
        answer = [int(logits.argmax())]
        while len(answer) < ANSWER_TOKENS and answer[-1] != EOS:
            past = len(prompt) + len(answer) - 1
            answer.append(int(session.run(slots, 0, np.array([answer[-1:]]), np.array([past]))[0].argmax()))
        found.append(answer)
    return found


def test_the_text_is_that_of_the_original_graph(folder: ModelFolder) -> None:
    prompts = [golden.prompt for golden in load(GOLDENS)]
    original = RawSession(folder.graph)
    assert answers(native(folder), prompts) == [original.greedy(prompt, ANSWER_TOKENS, EOS) for prompt in prompts]


def test_the_kernels_are_no_less_exact_than_onnxruntimes(folder: ModelFolder) -> None:
    tokens = Tokenizer.load(BUILT_IN).encode(TEXT.read_text(encoding="utf-8"))[:TEXT_TOKENS]
    exact, fast = load_original(folder.graph), load_graph(folder.graph, Precision.FAST)
    ours, theirs = (compare(exact, graph, tokens, threads=1) for graph in (native(folder), fast))
    assert ours.kl_divergence <= theirs.kl_divergence
    assert ours.top_1 >= theirs.top_1 - 0.01  # four positions, about as many as differ by chance
