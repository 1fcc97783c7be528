"""What figures were measured on, in a line each: they mean nothing without it."""

from __future__ import annotations

import os
import platform
import re
from datetime import date
from pathlib import Path

import onnxruntime

from server import __version__
from server.runtime.cpu import available_threads
from server.runtime.model_folder import open_model_folder


def describe_machine() -> str:
    """The processor, how much of it, memory, versions, and the day."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = [f"{_processor()}, {available_threads()} cores, {memory:.0f} GiB"]
    facts += [f"lfm-serve {__version__}, onnxruntime {onnxruntime.__version__}, {date.today()}"]
    return "; ".join(facts)


def describe_model(path: Path) -> str:
    """Its name, dtype and the size of its weights."""
    folder = open_model_folder(path)
    size = sum(file.stat().st_size for file in folder.graph.parent.glob(f"{folder.graph.name}*"))
    return f"{path.name} in {folder.dtype} ({size / 1e9:.2g} GB)"


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file stands behind. Linux only."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (kilobytes,) = re.findall(r"^Anonymous: +(\d+) kB$", rollup, re.MULTILINE)
    return int(kilobytes) * 1024


def _processor() -> str:
    """Linux knows its model's name; others at least the architecture."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
