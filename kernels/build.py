"""Compiles the kernels into one shared library that depends on libc only.

    python kernels/build.py [OUTPUT]

The environment variable CC chooses the C compiler, and CFLAGS adds flags.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
OUTPUT = SOURCES.parent / "server" / "runtime" / "native" / "lfm_kernels.so"
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
)
COMMON = (
    "attributes.c",
    "convolution.c",
    "direct.c",
    "experts.c",
    "isa.c",
    "matmul.c",
    "operators.c",
    "pack.c",
    "portable.c",
    "router.c",
    "shapes.c",
)
AVX2 = ("-mavx2", "-mfma", "-mf16c")
X86 = {
    "avx2.c": AVX2,
    "avxvnni.c": (*AVX2, "-mavxvnni"),
    "avx512vnni.c": (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
}
ARM64 = {"dotprod.c": ("-march=armv8.2-a+dotprod",), "i8mm.c": ("-march=armv8.2-a+dotprod+i8mm",)}
INSTRUCTION_SETS = {"x86_64": X86, "amd64": X86, "aarch64": ARM64, "arm64": ARM64}
"""The files of the instruction sets and their compiler flags, by machine.

A file is left out of the library if the compiler does not know its flags.
"""


class CompileError(Exception):
    """The error if there is no C compiler or it fails."""


def build(
    output: Path = OUTPUT, flags: Sequence[str] = (), target: tuple[str, str] | None = None, simde: Path | None = None
) -> Path:
    """Compile the library into `output`, and return `output`.

    target: another machine and the compiler for it; None for this machine.
    simde: folder of SIMDe's headers. With these, AVX2 emulates the instructions that the CPU lacks; for tests.

    Replaces an existing library in one step. Raises CompileError if the library cannot be compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "library")
        _run([*_compile(Path(folder), flags, target, simde), "-shared", "-o", str(library)])
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = output.with_suffix(".partial")
        shutil.copyfile(library, partial)
        partial.replace(output)  # atomic: a running server keeps the old library, which it has mapped
        output.with_suffix(".sha256").write_text(hashlib.sha256(output.read_bytes()).hexdigest())
    return output


def build_program(source: Path, output: Path, flags: Sequence[str]) -> Path:
    """Compile a program that contains the kernels, and return its path. For tests.

    Raises CompileError if the program cannot be compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run([*_compile(Path(folder), flags), str(source), "-pthread", "-o", str(output)])
    return output


def _compile(
    folder: Path, flags: Sequence[str], target: tuple[str, str] | None = None, simde: Path | None = None
) -> list[str]:
    """Compile all sources into object files in `folder`.

    Returns the command that links them, without the output file.
    """
    machine, command = target or (platform.machine(), os.environ.get("CC") or "cc")
    compiler = shlex.split(command)
    if shutil.which(compiler[0]) is None:
        raise CompileError(f"there is no C compiler named {compiler[0]}")
    every = [*FLAGS, *shlex.split(os.environ.get("CFLAGS", "")), *flags]
    special = INSTRUCTION_SETS.get(machine.lower(), {})
    if simde is not None:
        special = dict.fromkeys(special, (*AVX2, f"-I{simde}"))
        every += ["-DLFM_SIMDE", "-DLFM_UNINLINED", "-O1", "-Wno-psabi"]
    known = {name: own for name, own in special.items() if _accepts([*compiler, *own])}
    every += [f"-DLFM_{Path(name).stem.upper()}" for name in known]
    objects = []
    for name, own in [*((name, ()) for name in COMMON), *known.items()]:
        objects.append(str(Path(folder, name).with_suffix(".o")))
        _run([*compiler, *every, *own, "-c", str(SOURCES / name), "-o", objects[-1]])
    return [*compiler, *every, *objects]


def remove(output: Path = OUTPUT) -> None:
    """Remove the library of an earlier `build`, since it may differ from the sources."""
    for path in (output, output.with_suffix(".sha256")):
        path.unlink(missing_ok=True)


def _accepts(command: Sequence[str]) -> bool:
    """Return whether the compiler knows the flags in `command`."""
    check = [*command, "-x", "c", "-E", os.devnull]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CompileError(f"{' '.join(command)} failed:\n{result.stderr}")


if __name__ == "__main__":
    try:
        print(build(*map(Path, sys.argv[1:2])))
    except CompileError as error:
        sys.exit(str(error))
