"""Describes the machine for benchmark reports."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

from server import __version__
from server.runtime.machine.cpu import available_threads


def describe_machine() -> str:
    """Return the processor, cores, memory, versions and date in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = [f"{_processor()}, {available_threads()} cores, {memory:.0f} GiB"]
    facts += [f"lfm-serve {__version__}, onnxruntime {version('onnxruntime')}, {date.today()}"]
    return "; ".join(facts)


def _processor() -> str:
    """Return the processor's model if /proc/cpuinfo names it, else its architecture."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
