"""Which instruction set an arm64 CPU gets, under qemu."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.remote import Remote

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("cpu", "isas"),
    [
        ("max", ["neon-i8mm", "neon-dotprod", "portable"]),
        ("neoverse-n1", ["neon-dotprod", "portable"]),
        ("cortex-a57", ["portable"]),
    ],
)
def test_a_cpu_gets_the_best_instruction_set_that_it_has(arm64_library: Path, cpu: str, isas: list[str]) -> None:
    with Remote(arm64_library, cpu) as library:
        assert list(library.isas) == isas
