"""Prepared copies for the native kernels: made at a first start, found again, and refused if they are damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from server.prepare import prepare, prune
from server.runtime.graph import Precision
from server.runtime.model_folder import open_model_folder
from server.runtime.native.library import LIBRARY
from server.runtime.prepared_copy import lookup, writer
from server.runtime.prepared_copy.lookup import WEIGHTS
from server.runtime.session_pool import open_sessions
from tests import models
from tests.unit.prepared_copies import first_start, graph_of, logits, make_large

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the kernels are not compiled")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.build("q4", tmp_path / "q4")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    make_large(monkeypatch)


def test_a_small_model_is_packed_in_memory(model: Path, tmp_path: Path) -> None:
    graph, _ = first_start(model, tmp_path / "prepared")
    assert graph.native
    assert not graph.prepared
    assert not (tmp_path / "prepared").exists()


@pytest.mark.usefixtures("large")
def test_a_large_model_is_prepared_at_its_first_start_and_found_at_the_next(model: Path, tmp_path: Path) -> None:
    graph, said = first_start(model, tmp_path / "prepared")
    assert graph.prepared
    assert graph.native
    assert any("sampled rows" in line for line in said)
    again, said = first_start(model, tmp_path / "prepared")
    assert again.weights == graph.weights
    assert len(said) == 1
    np.testing.assert_array_equal(logits(again), logits(graph))


@pytest.mark.usefixtures("large")
def test_a_large_model_without_a_copy_runs_on_onnxruntime(model: Path, tmp_path: Path) -> None:
    graph, said = first_start(model, tmp_path / "prepared", create=False)
    assert not graph.native
    assert any("no prepared copy for the native kernels" in line for line in said)


@pytest.mark.usefixtures("large")
def test_no_space_means_no_copy(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "NATIVE_GROWTH", 1e12)
    monkeypatch.setattr("server.prepare.memory_left", lambda: 10**30)
    graph, said = first_start(model, tmp_path / "prepared")
    assert not graph.native
    assert any("not enough space" in line for line in said)


@pytest.mark.usefixtures("large")
def test_both_widths_of_a_copy_are_ready_at_once(model: Path, tmp_path: Path) -> None:
    graph, _ = first_start(model, tmp_path / "prepared")
    sessions = open_sessions(graph, 2, 16)
    assert [session.threads for session in sessions.sessions] == [2, 1, 1]
    assert sessions.open_narrow is None


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_copy_is_made_again(model: Path, tmp_path: Path, damage: str) -> None:
    graph, _ = first_start(model, tmp_path / "prepared")
    expected, weights = logits(graph), graph.weights / WEIGHTS
    if damage == "cut":
        os.truncate(weights, weights.stat().st_size - 1)
    else:
        with weights.open("r+b") as file:
            file.write(b"\xff\x00")
    again, said = first_start(model, tmp_path / "prepared")
    assert any("is made again" in line for line in said)
    np.testing.assert_array_equal(logits(again), expected)


@pytest.mark.usefixtures("large")
def test_another_onnxruntime_or_cpu_changes_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, _ = first_start(model, tmp_path / "prepared")
    monkeypatch.setattr(lookup.ort, "__version__", "99.0")
    monkeypatch.setattr(lookup, "_cpu", lambda: ["another"])
    assert first_start(model, tmp_path / "prepared")[0].weights == graph.weights


@pytest.mark.usefixtures("large")
def test_another_packing_makes_a_new_copy_and_the_old_one_can_be_pruned(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "prepared"
    old, _ = first_start(model, root)
    monkeypatch.setattr(lookup, "PACKING", 999)
    new, _ = first_start(model, root)
    assert new.weights != old.weights
    prune(root, lambda line: None)
    assert [path for path in root.iterdir() if path.is_dir()] == [new.weights]


def test_prepare_compares_the_probabilities_as_well(model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    prepare(open_model_folder(model), Precision.FAST, 1, tmp_path, said.append, native=True)
    assert any("mean KL divergence" in line for line in said)
    assert lookup.find(graph_of(model), tmp_path, said.append) is not None
