"""Prepared copies compute the same as their model, are shared, and are not used if damaged or out of date."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from server.cli import main
from server.errors import PreparationError
from server.prepare import prepare
from server.runtime import session_pool
from server.runtime.graph import Graph, Precision, load
from server.runtime.machine.mapped_file import map_file
from server.runtime.model_folder import open_model_folder
from server.runtime.prepared_copy import agreement, lookup, placement
from server.runtime.prepared_copy.placement import Placement, place
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.session_pool import SessionPool, choose_graph, open_sessions
from server.runtime.slots import SlotPool
from tests import models

ROOT = Path(__file__).parents[2]
Lines = list[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.build("q4", tmp_path_factory.mktemp("models") / "q4")


@pytest.fixture
def own_model(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "own"))


def make(model: Path, root: Path, precision: Precision = Precision.EXACT) -> Lines:
    """Prepare `model` and return the lines of progress."""
    told: Lines = []
    prepare(open_model_folder(model), precision, 1, root, told.append)
    return told


def found(model: Path, root: Path, precision: Precision = Precision.EXACT) -> tuple[lookup.Copy | None, Lines]:
    told: Lines = []
    return lookup.find(load(open_model_folder(model).graph, precision), root, told.append), told


def opened(model: Path, root: Path, threads: int, said: Lines) -> SessionPool:
    """The sessions that a server on `model` would have."""
    folder = open_model_folder(model)
    graph = choose_graph(load(folder.graph, Precision.EXACT), root, said.append)
    return open_sessions(place(graph, Placement.MAPPED, said.append), threads, 16, folder.head_dim)


def copies(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()]


def logits(graph: Graph, head_dim: int | None) -> np.ndarray:
    session = ModelSession(graph, SessionOptions(threads=1, max_tokens=16), head_dim)
    slots = SlotPool(session.contract.states, 1, 16)
    return session.run(slots, 0, np.arange(8, 20)[None], np.array([0])).copy()


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 255]))


@pytest.mark.parametrize("kind", models.KINDS)
def test_a_prepared_copy_computes_what_the_model_computes(kind: str, tmp_path: Path) -> None:
    folder = open_model_folder(models.build(kind, tmp_path / "model"))
    make(folder.path, tmp_path / "prepared")
    copy, _ = found(folder.path, tmp_path / "prepared")
    assert copy is not None
    expected = logits(load(folder.graph, Precision.EXACT), folder.head_dim)
    np.testing.assert_allclose(logits(copy.graph, folder.head_dim), expected, rtol=0, atol=1e-6)


def test_preparing_says_what_it_writes_and_how_well_the_copy_agrees(model: Path, tmp_path: Path) -> None:
    told = "\n".join(make(model, tmp_path))
    assert re.search(r"Writing up to [\d.]+ MB to .*, with [\d.]+ GB free", told)
    assert re.search(r"likeliest token is the same at [\d.]+% of 384 positions, mean KL divergence", told)
    (folder,) = copies(tmp_path)
    assert json.loads((folder / "manifest.json").read_text())["precision"] == "exact"


def test_a_copy_is_made_once_and_kept_when_it_is_whole(model: Path, tmp_path: Path) -> None:
    make(model, tmp_path)
    (folder,) = copies(tmp_path)
    before = (folder / "weights").stat()
    assert any("checking all of it" in line for line in make(model, tmp_path))
    assert (folder / "weights").stat().st_mtime_ns == before.st_mtime_ns


def cut_short(folder: Path) -> None:
    os.truncate(folder / "weights", (folder / "weights").stat().st_size - 1)


def overwrite(folder: Path) -> None:
    flip(folder / "weights", 0)


def empty(folder: Path) -> None:
    os.truncate(folder / "weights", 0)


def damage_the_graph(folder: Path) -> None:
    flip(folder / "model.onnx", 100)


def lose_the_weights(folder: Path) -> None:
    (folder / "weights").unlink()


def spoil_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    "damage", [cut_short, empty, overwrite, damage_the_graph, lose_the_weights, spoil_the_manifest]
)
def test_a_damaged_copy_is_not_used_and_is_made_again(
    damage: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    make(model, tmp_path)
    damage(copies(tmp_path)[0])
    copy, told = found(model, tmp_path)
    assert copy is None
    assert "is damaged and is not used" in told[0]
    make(model, tmp_path)
    assert found(model, tmp_path)[0] is not None


def test_preparing_again_finds_a_single_changed_byte(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "SAMPLE_BYTES", 16)
    make(model, tmp_path)
    weights = copies(tmp_path)[0] / "weights"
    flip(weights, (weights.stat().st_size - 16) // 255 + 20)
    assert any("is made again" in line for line in make(model, tmp_path))
    assert not any("is made again" in line for line in make(model, tmp_path))


def test_preparing_again_finds_weights_that_changed_without_their_time(own_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "prepared"
    make(own_model, root)
    weights = own_model / "onnx" / "model_q4.onnx_data"
    before = weights.stat()
    flip(weights, before.st_size // 2)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert any("is of other weights and is made again" in line for line in make(own_model, root))


def test_weights_within_the_graph_count_too(own_model: Path, tmp_path: Path) -> None:
    path = own_model / "onnx" / "model_q4.onnx"
    outside = load(path, Precision.EXACT).weight_bytes
    onnx.save(onnx.load(path), path)
    (own_model / "onnx" / "model_q4.onnx_data").unlink()
    assert load(path, Precision.EXACT).weight_bytes > 0.9 * outside


def test_pruning_leaves_what_it_has_not_made(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert main(["prepare", "--prune", "--prepared-folder", str(tmp_path)]) == 0
    assert "There is nothing to remove." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def touch_the_weights(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(model / "onnx" / "model_q4.onnx_data", (0, 0))


def upgrade_onnxruntime(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "99.0")


def move_to_another_cpu(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")


@pytest.mark.parametrize("change", [touch_the_weights, upgrade_onnxruntime, move_to_another_cpu])
def test_a_copy_of_something_else_is_not_found_and_can_be_pruned(
    change: Callable[[Path, pytest.MonkeyPatch], None],
    own_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "prepared"
    make(own_model, root)
    assert found(own_model, root, Precision.FAST)[0] is None
    assert main(["prepare", "--prune", "--prepared-folder", str(root)]) == 0
    assert "There is nothing to remove." in capsys.readouterr().err
    change(own_model, monkeypatch)
    assert found(own_model, root)[0] is None
    assert main(["prepare", "--prune", "--prepared-folder", str(root)]) == 0
    assert "freed" in capsys.readouterr().err
    assert not copies(root)


def test_without_space_nothing_is_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(PreparationError, match=r"up to [\d.]+ MB are needed, .* 0\.0 MB are free"):
        make(model, tmp_path)
    assert not copies(tmp_path)


def test_a_copy_that_strays_from_the_original_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(agreement.TOLERANCES, Precision.FAST, (1.0, 0.0))
    with pytest.raises(PreparationError, match=r"differs too much from the original: .* Use --precision exact"):
        make(model, tmp_path, Precision.FAST)
    assert not copies(tmp_path)


def test_two_processes_that_prepare_at_once_make_one_copy(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "prepare", "--model", str(model), "--prepared-folder", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("Writing" in lines for lines in told) == 1
    assert len(copies(tmp_path)) == 1


def test_what_a_killed_process_left_behind_is_cleared_away(model: Path, tmp_path: Path) -> None:
    key = lookup.key(load(open_model_folder(model).graph, Precision.EXACT))
    (tmp_path / f"{key}.partial").mkdir()
    (tmp_path / f"{key}.partial" / "weights").write_text("half")
    make(model, tmp_path)
    assert [path.name for path in copies(tmp_path)] == [key]


def test_sessions_of_both_widths_are_opened_on_a_copy(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_pool, "SMALL", 0)
    monkeypatch.setattr(placement, "map_file", lambda path: replace(map_file(path), locked=False))
    monkeypatch.setattr(placement, "lies_in_memory", lambda path: False)
    said: Lines = []
    alone = opened(model, tmp_path, 2, said)
    assert [session.threads for session in alone.sessions] == [2]
    assert alone.open_narrow is None
    assert alone.droppable_bytes == 0
    assert "lfm-serve prepare" in said[-1]
    make(model, tmp_path)
    shared = opened(model, tmp_path, 2, said)
    assert [session.threads for session in shared.sessions] == [2]
    assert shared.open_narrow is not None
    assert [session.threads for session in shared.open_narrow()] == [1, 1]
    assert shared.droppable_bytes == (copies(tmp_path)[0] / "weights").stat().st_size
    assert any("when it was made, the likeliest token is the same" in line for line in said)


def test_a_small_model_gets_sessions_of_both_widths_at_once(model: Path, tmp_path: Path) -> None:
    small = opened(model, tmp_path, 4, [])
    assert [session.threads for session in small.sessions] == [4, 2, 2]
    assert small.open_narrow is None


def test_a_copy_that_does_not_fit_into_memory_is_left_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(model, tmp_path)
    monkeypatch.setattr(session_pool, "memory_left", lambda: 1_000_000)
    said: Lines = []
    graph = choose_graph(load(open_model_folder(model).graph, Precision.EXACT), tmp_path, said.append)
    assert not graph.prepared
    assert opened(model, tmp_path, 1, said).droppable_bytes == 0
    assert "does not fit into the 1.0 MB of memory" in said[-1]
