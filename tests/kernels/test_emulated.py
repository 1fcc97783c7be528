"""Instruction sets that this CPU may lack, emulated by SIMDe: the same bits as AVX2.

SIMDe is a folder of C headers (in the package simde-py); SIMDE_FOLDER says where. Compiling takes minutes.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from server.runtime.native.library import Library, load_library
from tests.kernels.reference import Direct, expert_block, quantized

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif("SIMDE_FOLDER" not in os.environ, reason="SIMDE_FOLDER is not set")]
ROWS = (1, 2, 3, 4, 11, 12, 13, 25, 130)
FORMATS = [(4, False), (4, True), (8, False), (8, True)]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Library:
    spec = importlib.util.spec_from_file_location("kernels_build", ROOT / "kernels" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    output = tmp_path_factory.mktemp("emulated") / "lfm_kernels.so"
    return load_library(build.build(output, simde=Path(os.environ["SIMDE_FOLDER"])))


@pytest.mark.parametrize("isa", ["avx-vnni", "avx512-vnni"])
@pytest.mark.parametrize(("bits", "zeros"), FORMATS)
def test_an_emulated_instruction_set_gives_the_bits_of_avx2(
    emulated: Library, rng: np.random.Generator, isa: str, bits: int, zeros: bool
) -> None:
    matrix = quantized(rng, 144, 1100, bits, zeros)
    packed = matrix.packed(emulated)
    for rows in ROWS:
        x = rng.standard_normal((rows, 1100)).astype(np.float32)
        expected = emulated.matmul(matrix.form, packed, x, isa="avx2")
        np.testing.assert_array_equal(emulated.matmul(matrix.form, packed, x, isa=isa), expected)
    block = expert_block(rng, 4, 2, 128, 96, bits=bits, zeros=zeros)
    x, logits = rng.standard_normal((20, 128)).astype(np.float32), rng.standard_normal((20, 4)).astype(np.float32)
    direct = Direct(emulated)
    np.testing.assert_array_equal(direct.experts(block, x, logits, isa), direct.experts(block, x, logits, "avx2"))
