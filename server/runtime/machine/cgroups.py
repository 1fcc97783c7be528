"""Finds the control groups of this process, in versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and its parents.

    Some of them may not exist.

    root: folder with `proc` and `sys`. Without `proc`, yields nothing.
    controller: "cpu" or "memory".
    """
    mounts = root / "sys" / "fs" / "cgroup"
    for line in read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # In a container, this may be a path on the host that does not exist here. In that case, only the mount's root
        # has files.
        group = PurePosixPath(*(name for name in path.split("/") if name != ".."))
        for mount in {mounts / controllers, mounts / controller} if controllers else {mounts}:
            yield from (mount / folder for folder in (group, *group.parents))


def read(path: Path) -> str:
    """Return a file's text without surrounding whitespace, or "" if unreadable."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
