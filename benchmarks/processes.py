"""Free ports for servers, and the CPU time and memory of their processes."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path


def free_port() -> int:
    """Return a free TCP port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def anonymous_bytes(pid: int) -> int:
    """Return how much of a process's memory no file backs. Linux only."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (kilobytes,) = re.findall(r"^Anonymous: +(\d+) kB$", rollup, re.MULTILINE)
    return int(kilobytes) * 1024


def major_faults(pid: int) -> int:
    """Return how often a process has waited for a page from disk. Linux only."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[9])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process; 0 if /proc has no such process."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0
    user_ticks, system_ticks = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user_ticks) + int(system_ticks)) / os.sysconf("SC_CLK_TCK")
