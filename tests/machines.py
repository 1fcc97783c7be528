"""Root folders like those of Linux machines with control groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def machine(root: Path, own_groups: str, limits: Mapping[str, str]) -> Path:
    """Write the control groups of a process in `own_groups`, and return `root`.

    `limits` maps names of files in /sys/fs/cgroup to their contents.
    """
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(own_groups)
    for name, content in limits.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root
