"""Builds of the kernels with sanitizers, which run random operands in threads: see fuzz.c."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.kernels.remote import load_build

SANITIZERS = {"address": ("address,undefined", "-fno-sanitize-recover=all"), "thread": ("thread",)}


def build_fuzz(sanitizer: str, folder: Path) -> Path:
    kinds, *others = SANITIZERS[sanitizer]
    flags = (f"-fsanitize={kinds}", *others, "-DLFM_UNINLINED", "-O1", "-g")
    program: Path = load_build().build_program(Path(__file__).with_name("fuzz.c"), folder / f"fuzz-{sanitizer}", flags)
    return program


def fuzz(program: Path, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Run random cases. The exit code is not 0 if a sanitizer found something or threads changed a result."""
    return subprocess.run([program, str(seconds), str(seed)], capture_output=True, text=True, check=False)
