"""Which instruction set a CPU gets, under qemu: some CPUs lack a single feature."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.runtime.native.library import Library
from tests.kernels.remote import X86_64, Remote, build_x86

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("cpu", "isas"),
    [
        ("max", ["neon-i8mm", "neon-dotprod", "portable"]),
        ("neoverse-n1", ["neon-dotprod", "portable"]),
        ("cortex-a57", ["portable"]),
    ],
)
def test_an_arm64_cpu_gets_the_best_instruction_set_that_it_has(arm64_library: Path, cpu: str, isas: list[str]) -> None:
    with Remote(arm64_library, cpu) as library:
        assert list(library.isas) == isas


@pytest.mark.parametrize(
    ("cpu", "isas"),
    [
        ("max,-avx512f,-avx-vnni", ["avx2", "portable"]),
        ("max,-avx2", ["portable"]),
        ("max,-fma", ["portable"]),
        ("max,-f16c", ["portable"]),
        ("Nehalem", ["portable"]),
    ],
)
def test_an_x86_cpu_gets_the_best_instruction_set_that_it_has(
    native: Library, tmp_path: Path, cpu: str, isas: list[str]
) -> None:
    with Remote(build_x86(native.path, tmp_path), cpu, X86_64) as library:
        assert list(library.isas) == isas
