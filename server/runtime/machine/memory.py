"""Measures how much memory is free in the machine and in the control groups.

Pages of mapped files count as free, because the system can drop them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from server.runtime.machine.cgroups import control_groups, read

CHARGES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""A control group's files for memory limit and usage, in versions 2 and 1."""

HEADROOM = 1_000_000_000
"""The number of bytes that must stay free besides the weights of a prepared copy.

With less, the system would read the weights from disk again and again.
"""
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "hugetlbfs")


def memory_left(resident: int = 0, root: Path = Path("/")) -> int:
    """Return how many bytes can be allocated without swapping, at least 0.

    resident: number of bytes of mapped files that must stay in memory.
    root: folder with `proc` and `sys`.
    """
    left = min((_available(root), *_left_in_groups(root)))
    return max(0, left - resident)


def lies_in_memory(path: Path, root: Path = Path("/")) -> bool:
    """Return whether a file is stored in memory, for example in a tmpfs.

    The system cannot drop the pages of such a file.
    """
    mounts = {}
    for line in read(root / "proc" / "self" / "mountinfo").splitlines():
        fields, _, device = line.partition(" - ")
        mounts[Path(fields.split()[4])] = device.split()[0]
    folder = next((parent for parent in path.resolve().parents if parent in mounts), None)
    return folder is not None and mounts[folder] in MEMORY_FILE_SYSTEMS


def _available(root: Path) -> int:
    """Return the machine's available memory in bytes."""
    for line in read(root / "proc" / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.removesuffix("kB")) * 1024
    # Without /proc, half of the memory counts as available.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the number of bytes left in each control group that has a memory limit."""
    for group in control_groups(root, "memory"):
        for limit, charged in CHARGES:
            allowed, used = read(group / limit), read(group / charged)
            if allowed.isdecimal() and used.isdecimal():  # "max" (version 2) means no limit
                yield int(allowed) - (int(used) - _file_pages(group))


def _file_pages(group: Path) -> int:
    """Return how many bytes of a control group's usage are cached pages of files."""
    lines = read(group / "memory.stat").splitlines()
    counts = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
    # Only version 1 has fields with total_, which include subgroups. In version 2, all fields do.
    return sum(counts.get(f"total_{name}", counts.get(name, 0)) for name in ("active_file", "inactive_file"))
