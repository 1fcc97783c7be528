"""The compilers that the library is built with, besides the machine's `cc`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from server.runtime.native.library import Library, load_library
from tests.kernels.reference import quantized
from tests.kernels.remote import load_build


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang_compiles_the_same_kernels(
    native: Library, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "clang")
    clang = load_library(load_build().build(tmp_path / "lfm_kernels.so"))
    assert clang.isas == native.isas
    for bits, zeros in ((4, False), (4, True), (8, False), (8, True)):
        matrix = quantized(rng, 72, 1100, bits, zeros)
        packed = matrix.packed(native)
        for rows in range(1, 14):
            x = rng.standard_normal((rows, 1100)).astype(np.float32)
            for isa in native.isas:
                ours, theirs = (one.matmul(matrix.form, packed, x, isa=isa) for one in (native, clang))
                np.testing.assert_array_equal(ours, theirs)
