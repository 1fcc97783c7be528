"""Which control groups the process is in, in versions 1 and 2 alike. Knows no limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders that may hold the process's limits of a controller ("cpu", "memory"): its own group's and those above.

    `root` is where `proc` and `sys` are looked for; where there are none (not Linux), there are no groups.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    for line in read(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # In a container the path may be the host's, which is not there: then only the mount itself counts.
        group = PurePosixPath(*(name for name in path.split("/") if name != ".."))
        for mount in {mounts / controllers, mounts / controller} if controllers else {mounts}:
            yield from (mount / folder for folder in (group, *group.parents))


def read(path: Path) -> str:
    """A file's text without the line's end, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
