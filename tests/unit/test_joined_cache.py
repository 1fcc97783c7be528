"""A graph that returns its caches joined computes the same as one with caches in place, in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from server.runtime.graph import Precision, load
from server.runtime.joined_cache import JoinedCache
from server.runtime.model_folder import open_model_folder
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool
from tests import models

MAX_LEN = 48


def open_session(folder: Path) -> ModelSession:
    model = open_model_folder(folder)
    return ModelSession(load(model.graph, Precision.EXACT), SessionOptions(1, 64), model.head_dim)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSession]:
    root = tmp_path_factory.mktemp("models")
    return [open_session(models.build(kind, root / kind)) for kind in models.WITHOUT_CONVOLUTIONS]


def test_the_session_finds_out_how_a_graph_keeps_its_caches(sessions: list[ModelSession]) -> None:
    in_place, joined = sessions
    assert (in_place.contract.joins, joined.contract.joins) == (False, True)
    assert joined.contract.bytes_per_token == 4 * in_place.contract.bytes_per_token


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_both_have_the_same_logits(sessions: list[ModelSession], lengths: list[int], seed: int) -> None:
    logits = []
    for session in sessions:
        random = np.random.default_rng(seed)
        slots = SlotPool(session.contract.states, 3, MAX_LEN)
        for slot, length in enumerate(lengths):
            half = length // 2
            prompt = random.integers(0, 1024, (1, length))
            if half:
                session.run(slots, slot, prompt[:, :half], np.array([0]))
            session.run(slots, slot, prompt[:, half:], np.array([half]))
        past = np.array(lengths)
        steps = (session.run(slots, 0, random.integers(0, 1024, (len(past), 1)), past + i) for i in range(3))
        logits.append(np.concatenate([step.copy() for step in steps]))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4)


def test_a_long_row_does_not_pad_the_short_ones(sessions: list[ModelSession]) -> None:
    cache = JoinedCache(sessions[1].contract.states)
    cache.pads = True
    assert cache.takes(np.array([40, 40, 40]))
    assert cache.takes(np.array([40, 30]))
    assert not cache.takes(np.array([40, 1, 1]))
    cache.pads = False
    assert cache.takes(np.array([40, 40]))
    assert not cache.takes(np.array([40, 39]))


def test_a_graph_that_ignores_the_mask_runs_rows_of_other_lengths_alone(tmp_path: Path) -> None:
    folder = models.build("joined-caches", tmp_path / "model")
    path = folder / "onnx" / "model.onnx"
    graph = onnx.load(path, load_external_data=False)
    for node in graph.graph.node:
        if node.op_type == "And":  # causal and mask: let every position of the padding be seen
            everything = numpy_helper.from_array(np.array(True), f"{node.output[0]}/everything")
            graph.graph.initializer.append(everything)
            node.input[1] = everything.name
    onnx.save(graph, path)
    session = open_session(folder)
    slots = SlotPool(session.contract.states, 2, MAX_LEN)
    for slot, length in enumerate((12, 9)):
        session.run(slots, slot, np.arange(length).reshape(1, -1) + slot, np.array([0]))
    rows = [session.run(slots, i, np.array([[5]]), np.array([past])).copy() for i, past in enumerate((12, 9))]
    together = session.run(slots, 0, np.array([[5], [5]]), np.array([12, 9]))
    np.testing.assert_array_equal(np.concatenate(rows), together)
