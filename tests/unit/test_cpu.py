"""The number of compute threads follows affinity and the CPU quota of either version of control groups."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from server.runtime.machine.cpu import available_threads, kernel_features
from tests.machines import machine

NOWHERE = Path("/nowhere")


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


def test_without_a_quota_every_core_of_the_machine_is_used() -> None:
    assert 1 <= available_threads(NOWHERE) <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_affinity_limits_the_threads() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_threads(NOWHERE) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_without_affinity_every_core_of_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert available_threads(NOWHERE) == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads(NOWHERE) == 1


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("limit", "threads"),
    [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("900000 100000", 4)],
)
def test_a_quota_of_version_2_is_rounded_up(tmp_path: Path, limit: str, threads: int) -> None:
    assert available_threads(machine(tmp_path, "0::/\n", {"cpu.max": limit})) == threads


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("quota", "threads"), [("-1", 4), ("250000", 3), ("50000", 1)])
@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_version_1_is_rounded_up(tmp_path: Path, mount: str, quota: str, threads: int) -> None:
    limits = {f"{mount}/cpu.cfs_quota_us": quota, f"{mount}/cpu.cfs_period_us": "100000"}
    own = "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/\n"
    assert available_threads(machine(tmp_path, own, limits)) == threads


@pytest.mark.usefixtures("four_cores")
def test_the_lowest_quota_of_the_groups_above_holds(tmp_path: Path) -> None:
    limits = {
        "system.slice/cpu.max": "100000 100000",
        "system.slice/lfm.service/cpu.max": "300000 100000",
        "other.slice/cpu.max": "1000 100000",
    }
    assert available_threads(machine(tmp_path, "0::/system.slice/lfm.service\n", limits)) == 1


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("path", ["/docker/0123", "/../../kubepods/pod1"])
def test_a_container_whose_group_path_is_the_host_s_finds_its_limit_at_the_mount(tmp_path: Path, path: str) -> None:
    assert available_threads(machine(tmp_path, f"0::{path}\n", {"cpu.max": "200000 100000"})) == 2


@pytest.mark.parametrize(
    ("line", "features"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni amx_tile amx_int8 avx_vnni", ["AVX2", "AVX-VNNI", "AVX512-VNNI", "AMX"]),
        ("Features\t: fp asimd asimddp i8mm", ["NEON dotprod", "i8mm"]),
        ("flags : fpu sse2", []),
    ],
)
def test_the_features_that_kernels_are_chosen_by(tmp_path: Path, line: str, features: list[str]) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(f"processor : 0\nmodel name : flags\n{line}\n\nprocessor : 1\n")
    assert kernel_features(tmp_path) == features
    assert kernel_features(NOWHERE) == []
