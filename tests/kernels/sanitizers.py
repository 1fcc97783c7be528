"""Builds of the kernels with sanitizers, which run random operands in threads, or calls that fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.kernels.remote import load_build

SANITIZERS = {"address": ("address,undefined", "-fno-sanitize-recover=all"), "thread": ("thread",)}


def build_program(name: str, sanitizer: str, folder: Path) -> Path:
    """Compile the program `name`.c, which contains the kernels, with a sanitizer."""
    kinds, *others = SANITIZERS[sanitizer]
    flags = (f"-fsanitize={kinds}", *others, "-DLFM_UNINLINED", "-O1", "-g")
    source = Path(__file__).with_name(f"{name}.c")
    program: Path = load_build().build_program(source, folder / f"{name}-{sanitizer}", flags)
    return program


def build_fuzz(sanitizer: str, folder: Path) -> Path:
    return build_program("fuzz", sanitizer, folder)


def fuzz(program: Path, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Run random cases. The exit code is not 0 if a sanitizer found something or threads changed a result."""
    return subprocess.run([program, str(seconds), str(seed)], capture_output=True, text=True, check=False)
