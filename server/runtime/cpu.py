"""Counts the cores this process may use, by CPU affinity and quotas."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from server.runtime.cgroups import control_groups, read


def available_threads(root: Path = Path("/")) -> int:
    """Return the number of cores this process may use, at least 1.

    This is the number of cores in its affinity or, if lower, its quota, rounded up.

    `root`: folder that contains `proc` and `sys`. There is no quota without them, as on other systems than Linux.
    """
    quota = min(_quotas(root), default=math.inf)
    return max(1, math.ceil(min(_cores(), quota)))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each control group of this process, in cores.

    All of them apply.
    """
    for group in control_groups(root, "cpu"):
        limit = read(group / "cpu.max").split()
        if not limit:
            limit = [read(group / "cpu.cfs_quota_us"), read(group / "cpu.cfs_period_us")]
        quota, period = limit
        if quota.isdecimal() and period.isdecimal():  # without a limit, it is "max" in version 2 and -1 in version 1
            yield int(quota) / int(period)
