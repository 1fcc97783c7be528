"""Weights of prepared copies stay in memory: locked where they are mapped, or in shared memory."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from server.errors import SharedMemoryError
from server.runtime.graph import Graph
from server.runtime.machine.mapped_file import is_kept, map_file
from server.runtime.native.library import LIBRARY
from server.runtime.prepared_copy.lookup import WEIGHTS
from server.runtime.prepared_copy.placement import Placement, place
from server.runtime.prepared_copy.shared_weights import remove_unused, share
from tests import models
from tests.unit.prepared_copies import first_start, logits, make_large

ROOT = Path(__file__).parents[2]
SHARE = """\
import sys
from pathlib import Path
from server.runtime.prepared_copy.shared_weights import share
print(share(Path(sys.argv[1]), Path(sys.argv[2]), lambda line: None), flush=True)
sys.stdin.read()
"""
MAP_WITHOUT_LOCKING = """\
import os, resource, sys
from pathlib import Path
import numpy.ctypeslib  # imported late otherwise, when the user may not read the environment any more
from server.runtime.machine.mapped_file import map_file
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.geteuid() == 0:  # root may lock without limit
    os.setresuid(65534, 65534, 65534)
mapped = map_file(Path(sys.argv[1]))
print(mapped.locked, int(mapped.data.sum()))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A prepared copy for the native kernels."""
    if not LIBRARY.exists():
        pytest.skip("the kernels are not compiled")
    folder = tmp_path_factory.mktemp("placement")
    with pytest.MonkeyPatch.context() as patch:
        make_large(patch)
        graph, _ = first_start(models.build("q4", folder / "q4"), folder / "prepared")
        yield graph


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The folder of a copy whose weights are a few bytes."""
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"weights")
    return folder


@contextmanager
def another_server(copy: Path, shared_memory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that shares the weights of a copy until its input ends."""
    command = [sys.executable, "-c", SHARE, str(copy), str(shared_memory)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(folder_of(shared_memory) / copy.name)
        yield process


def folder_of(shared_memory: Path) -> Path:
    return shared_memory / f"lfm-serve-{os.geteuid()}"


@pytest.mark.parametrize("placement", Placement)
def test_placed_weights_give_the_same_logits(copy: Graph, placement: Placement, tmp_path: Path) -> None:
    placed = place(copy, placement, lambda _: None, tmp_path)
    assert placed.tensors
    assert placed.weights == (
        copy.weights if placement is Placement.MAPPED else folder_of(tmp_path) / copy.weights.name
    )
    np.testing.assert_array_equal(logits(placed), logits(copy))


def test_locked_weights_are_not_counted_as_free_memory(copy: Graph) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    said: list[str] = []
    placed = place(copy, Placement.MAPPED, said.append)
    size = (copy.weights / WEIGHTS).stat().st_size
    if os.geteuid() == 0 or hard == resource.RLIM_INFINITY or hard > size:
        assert placed.droppable_bytes == 0
        assert not said
        assert is_kept(copy.weights / WEIGHTS)
    else:
        assert placed.droppable_bytes == size
        assert "ulimit -l" in said[-1]


def test_weights_are_read_if_they_cannot_be_locked() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # another user must be able to open the file
        file = Path(folder, WEIGHTS)
        file.write_bytes(bytes(range(256)) * 100)
        command = [sys.executable, "-c", MAP_WITHOUT_LOCKING, str(file)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["False", str(100 * sum(range(256)))], result.stderr


def test_an_empty_file_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).touch()
    with pytest.raises(OSError, match="Invalid argument"):
        map_file(tmp_path / WEIGHTS)


def test_servers_share_one_file_and_the_last_one_removes_it(weights: Path, tmp_path: Path) -> None:
    with another_server(weights, tmp_path):
        file = folder_of(tmp_path) / weights.name / WEIGHTS
        inode = file.stat().st_ino
        with another_server(weights, tmp_path):
            assert file.stat().st_ino == inode
        assert file.read_bytes() == b"weights"
    assert not file.exists()


def test_only_its_user_may_open_shared_weights(weights: Path, tmp_path: Path) -> None:
    with another_server(weights, tmp_path):
        assert folder_of(tmp_path).stat().st_mode & 0o777 == 0o700


def test_the_next_start_uses_the_weights_of_a_killed_server(weights: Path, tmp_path: Path) -> None:
    with another_server(weights, tmp_path) as killed:
        killed.send_signal(signal.SIGKILL)
    file = folder_of(tmp_path) / weights.name / WEIGHTS
    inode = file.stat().st_ino
    with another_server(weights, tmp_path):
        assert file.stat().st_ino == inode
    assert not file.exists()


def test_weights_of_a_killed_server_can_be_removed_but_not_those_in_use(weights: Path, tmp_path: Path) -> None:
    file = folder_of(tmp_path) / weights.name / WEIGHTS
    with another_server(weights, tmp_path) as server:
        remove_unused(tmp_path)
        assert file.exists()
        server.send_signal(signal.SIGKILL)
    remove_unused(tmp_path)
    assert not file.exists()


def test_a_server_with_another_model_removes_the_weights_of_a_killed_one(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / WEIGHTS).write_bytes(b"other weights")
    with another_server(weights, tmp_path) as killed:
        killed.send_signal(signal.SIGKILL)
    with another_server(other, tmp_path):
        assert not (folder_of(tmp_path) / weights.name).exists()


def test_a_folder_that_others_can_change_is_refused(weights: Path, tmp_path: Path) -> None:
    folder_of(tmp_path).mkdir(mode=0o700)
    folder_of(tmp_path).chmod(0o777)
    with pytest.raises(SharedMemoryError, match="closed to others"):
        share(weights, tmp_path, lambda _: None)


def test_weights_are_mapped_if_there_is_no_shared_memory(copy: Graph, tmp_path: Path) -> None:
    said: list[str] = []
    placed = place(copy, Placement.SHARED, said.append, tmp_path / "missing")
    assert "The weights are mapped, not shared" in said[0]
    assert placed.weights == copy.weights


def test_weights_that_do_not_fit_leave_no_lock(weights: Path, tmp_path: Path) -> None:
    """Another server would wait for the lock until this one ends."""
    os.truncate(weights / WEIGHTS, 1 << 40)
    with pytest.raises(SharedMemoryError, match="of memory are free"):
        share(weights, tmp_path, lambda _: None)
    with (folder_of(tmp_path) / f"{weights.name}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_damaged_shared_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with another_server(weights, tmp_path):
        (folder_of(tmp_path) / weights.name / WEIGHTS).write_bytes(b"damaged")
        with pytest.raises(SharedMemoryError, match="differ from the prepared copy"):
            share(weights, tmp_path, lambda _: None)
