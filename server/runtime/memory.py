"""How much memory is left: what the machine has, less what control groups take away.

Pages of mapped files count as free here, since the system can drop them. Knows nothing of what memory is for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from server.runtime.cgroups import control_groups, read

CHARGES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""A control group's limit and what counts towards it, in version 2 and 1."""

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "hugetlbfs")


def memory_left(resident: int = 0, root: Path = Path("/")) -> int:
    """Bytes that can still be taken without anything being swapped or killed, at least 0.

    `resident` bytes of mapped files are to stay in memory (the weights) and are subtracted. `root` is where `proc` and
    `sys` are looked for; without them (not Linux) half of the machine's memory counts as free.
    """
    left = min((_available(root), *_left_in_groups(root)))
    return max(0, left - resident)


def lies_in_memory(path: Path, root: Path = Path("/")) -> bool:
    """Whether a file's pages are memory that is taken already, as in a tmpfs, and not copies of what a disk has."""
    mounts = {}
    for line in read(root / "proc" / "self" / "mountinfo").splitlines():
        fields, _, device = line.partition(" - ")
        mounts[Path(fields.split()[4])] = device.split()[0]
    folder = next((parent for parent in path.resolve().parents if parent in mounts), None)
    return folder is not None and mounts[folder] in MEMORY_FILE_SYSTEMS


def _available(root: Path) -> int:
    for line in read(root / "proc" / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.removesuffix("kB")) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_in_groups(root: Path) -> Iterator[int]:
    for group in control_groups(root, "memory"):
        for limit, charged in CHARGES:
            allowed, used = read(group / limit), read(group / charged)
            if allowed.isdecimal() and used.isdecimal():  # no limit is "max" in version 2
                yield int(allowed) - (int(used) - _file_pages(group))


def _file_pages(group: Path) -> int:
    """Bytes of the group's charge that are copies of files; those of version 1's `total_` cover the groups below."""
    lines = read(group / "memory.stat").splitlines()
    counts = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
    return sum(counts.get(f"total_{name}", counts.get(name, 0)) for name in ("active_file", "inactive_file"))
