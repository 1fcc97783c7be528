"""Libraries on CPUs that this machine lacks: under qemu, and x86-64 with instructions that SIMDe emulates."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import pytest

from server.runtime.native.library import Library, load_library

SOURCES = Path(__file__).parents[2] / "kernels"
COMPILER = "aarch64-linux-gnu-gcc"
ARM64_LIBC = Path("/usr/aarch64-linux-gnu")
ARM64, X86_64 = ("qemu-aarch64", "-L", str(ARM64_LIBC)), ("qemu-x86_64",)
"""The emulators."""
MOST_ARGUMENTS, NAME_BYTES = 20, 32  # as in remote.c


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernels_build", SOURCES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build


def build_arm64(folder: Path) -> Path:
    """Compile the library and `remote` for arm64, unless `folder` has them, and return the library.

    Processes that share `folder` compile once. Skips the test without Debian's packages.
    """
    if shutil.which(COMPILER) is None or shutil.which(ARM64[0]) is None or not (ARM64_LIBC / "lib").exists():
        pytest.skip("arm64 needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user")
    folder.mkdir(exist_ok=True)
    library, program = folder / "lfm_kernels.so", folder / "remote"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            load_build().build(library, target=("aarch64", COMPILER))
            _compile_remote(COMPILER, program)
    return library


def build_x86(library: Path, folder: Path) -> Path:
    """Copy this machine's library to `folder`, compile `remote` beside it, and return the copy.

    Skips the test if this machine is no x86-64 or lacks a compiler or the emulator.
    """
    if platform.machine() != "x86_64" or shutil.which("cc") is None or shutil.which(X86_64[0]) is None:
        pytest.skip("emulated x86-64 CPUs need an x86-64 machine, a C compiler and Debian's qemu-user")
    _compile_remote("cc", folder / "remote")
    return Path(shutil.copy(library, folder))


def _compile_remote(compiler: str, program: Path) -> None:
    source = str(Path(__file__).with_name("remote.c"))
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", source, "-ldl", "-o", str(program)]
    subprocess.run(command, check=True)


def build_simde(folder: Path) -> Library:
    """Compile a library whose AVX-VNNI and AVX-512 are emulated on AVX2. Skips the test without SIMDe or AVX2."""
    if "SIMDE_FOLDER" not in os.environ:
        pytest.skip("SIMDE_FOLDER, the folder of SIMDe's headers, is not set")
    if "avx2" not in load_library().isas:
        pytest.skip("this CPU lacks AVX2")
    return load_library(load_build().build(folder / "lfm_kernels.so", simde=Path(os.environ["SIMDE_FOLDER"])))


class Remote:
    """Functions of a library on another CPU, called as those of `ctypes.CDLL` are, with integers and arrays."""

    def __init__(self, library: Path, cpu: str = "max", emulator: Sequence[str] = ARM64) -> None:
        command = [*emulator, "-cpu", cpu, str(library.with_name("remote")), str(library)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        lines = iter(lambda: self._output.readline().decode().strip(), "")
        found = [line.rpartition(" ") for line in lines]
        self.library = Library(library, {n: i for i, (n, _, runs) in enumerate(found) if runs == "1"}, self)  # type: ignore[arg-type]

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def __enter__(self) -> Library:
        return self.library

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("lfm_"):
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *arguments: int | np.ndarray[Any, Any] | None) -> int:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        pairs = [(1, a.nbytes) if isinstance(a, np.ndarray) else (0, int(a or 0)) for a in arguments]
        pairs += [(0, 0)] * (MOST_ARGUMENTS - len(pairs))
        header = struct.pack(f"={NAME_BYTES}sq", name.encode(), len(arguments))
        assert self._process.stdin is not None
        self._process.stdin.write(header + b"".join(struct.pack("=qq", *pair) for pair in pairs))
        for array in arrays:
            self._process.stdin.write(np.ascontiguousarray(array).tobytes())
        self._process.stdin.flush()
        (result,) = struct.unpack("=i4x", self._output.read(8))
        for array in arrays:
            array.reshape(-1).view(np.uint8)[:] = np.frombuffer(self._output.read(array.nbytes), np.uint8)
        return int(result)
