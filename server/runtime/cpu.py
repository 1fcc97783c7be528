"""How many threads may compute: what the machine has, less what affinity and control groups take away.

Knows nothing of what the threads are for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_threads(root: Path = Path("/")) -> int:
    """Cores the process may use, at least 1: those of its affinity, or fewer where a CPU quota (rounded up) is lower.

    `root` is where `proc` and `sys` are looked for; where there are none (not Linux), there is no quota.
    """
    quota = min(_quotas(root), default=math.inf)
    return max(1, math.ceil(min(_cores(), quota)))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Each limit on the process, in cores: a group's own and those of the groups above it all hold."""
    for group in _groups(root):
        limit = _read(group / "cpu.max").split()
        if not limit:
            limit = [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]
        quota, period = limit
        if quota.isdecimal() and period.isdecimal():  # no limit is "max" in version 2 and -1 in version 1
            yield int(quota) / int(period)


def _groups(root: Path) -> Iterator[Path]:
    """Folders that may hold the process's CPU limits, in versions 1 and 2 of control groups alike."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, which is not there: then only the mount itself counts.
        group = PurePosixPath(*(name for name in path.split("/") if name != ".."))
        for mount in {mounts / controllers, mounts / "cpu"} if controllers else {mounts}:
            yield from (mount / folder for folder in (group, *group.parents))


def _read(path: Path) -> str:
    """A file's text without the line's end, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
