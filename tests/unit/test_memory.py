"""The memory left follows the machine and the limits of either version of control groups; file pages are not used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from server.runtime.machine.memory import lies_in_memory, memory_left
from tests import machines

GB = 1_000_000_000


def machine(root: Path, available: int, own_groups: str = "", limits: Mapping[str, str] | None = None) -> Path:
    """Write a machine with `available` bytes of memory, and return `root`; see machines.machine."""
    machines.machine(root, own_groups, limits or {})
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\n")
    return root


def test_without_limits_what_the_machine_has_available_is_left(tmp_path: Path) -> None:
    assert memory_left(root=machine(tmp_path, 4096)) == 4096


def test_on_this_machine_something_is_left() -> None:
    assert memory_left() > 0
    assert memory_left(root=Path("/nowhere")) > 0


def test_mapped_weights_are_subtracted_and_never_leave_less_than_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, 4096)
    assert memory_left(1024, root) == 3072
    assert memory_left(8192, root) == 0


@pytest.mark.parametrize(("limit", "left"), [("max", 4 * GB // 1024 * 1024), (f"{2 * GB}", 1_400_000_000)])
def test_a_limit_of_version_2_counts_what_is_not_file_pages(tmp_path: Path, limit: str, left: int) -> None:
    files = {
        "memory.max": limit,
        "memory.current": f"{GB}",
        "memory.stat": "anon 600000000\nfile 400000000\ninactive_file 300000000\nactive_file 100000000",
    }
    assert memory_left(root=machine(tmp_path, 4 * GB, "0::/\n", files)) == left


@pytest.mark.parametrize(("limit", "left"), [(2**63 - 4096, 4 * GB // 1024 * 1024), (2 * GB, 1_400_000_000)])
def test_a_limit_of_version_1_counts_what_is_not_file_pages(tmp_path: Path, limit: int, left: int) -> None:
    files = {
        "memory/memory.limit_in_bytes": f"{limit}",
        "memory/memory.usage_in_bytes": f"{GB}",
        "memory/memory.stat": "active_file 7\ntotal_inactive_file 300000000\ntotal_active_file 100000000",
    }
    assert memory_left(root=machine(tmp_path, 4 * GB, "4:memory:/docker/1\n0::/\n", files)) == left


def test_the_tightest_of_the_groups_above_holds(tmp_path: Path) -> None:
    files = {
        "a/memory.max": f"{GB}",
        "a/memory.current": "0",
        "a/b/memory.max": f"{3 * GB}",
        "a/b/memory.current": "0",
    }
    assert memory_left(root=machine(tmp_path, 4 * GB, "0::/a/b\n", files)) == GB


@pytest.mark.parametrize(("file", "in_memory"), [("/dev/shm/copy/weights", True), ("/models/weights", False)])
def test_files_in_a_tmpfs_are_memory_that_is_taken(tmp_path: Path, file: str, in_memory: bool) -> None:
    mounts = ["25 1 254:0 / / rw - ext4 /dev/vda rw", "26 25 0:22 / /dev/shm rw,nosuid shared:3 - tmpfs shm rw"]
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text("\n".join(mounts))
    assert lies_in_memory(Path(file), tmp_path) is in_memory
