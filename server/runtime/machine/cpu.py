"""Detects how many cores this process may use, and the CPU's features."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from server.runtime.machine.cgroups import control_groups, read

KERNEL_FEATURES = {
    "AVX2": "avx2",
    "AVX-VNNI": "avx_vnni",
    "AVX512-VNNI": "avx512_vnni",
    "AMX": "amx_int8",
    "NEON dotprod": "asimddp",
    "i8mm": "i8mm",
}
"""The CPU features by which onnxruntime chooses its 4- and 8-bit kernels.

The values are their names in /proc/cpuinfo.
"""


def available_threads(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    root: folder with `proc` and `sys`, which hold the quotas of control groups.
    """
    quota = min(_quotas(root), default=math.inf)  # in addition to the process's affinity
    return max(1, math.ceil(min(_cores(), quota)))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each control group that has one, in cores."""
    for group in control_groups(root, "cpu"):
        limit = read(group / "cpu.max").split()
        if not limit:
            limit = [read(group / "cpu.cfs_quota_us"), read(group / "cpu.cfs_period_us")]
        quota, period = limit
        if quota.isdecimal() and period.isdecimal():  # "max" (version 2) and -1 (version 1) mean no limit
            yield int(quota) / int(period)


def cpu_flags(root: Path = Path("/")) -> list[str]:
    """Return the sorted names of the CPU's features, or [] if not on Linux."""
    for line in read(root / "proc" / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return sorted(value.split())
    return []


def kernel_features(root: Path = Path("/")) -> list[str]:
    """Return the features in KERNEL_FEATURES that the CPU has."""
    flags = set(cpu_flags(root))
    return [feature for feature, flag in KERNEL_FEATURES.items() if flag in flags]
