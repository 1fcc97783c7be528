"""The compilers that the library is built with, besides the machine's `cc`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from server.runtime.native.library import Library, load_library
from tests.kernels.remote import load_build


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang_compiles_the_same_instruction_sets(
    native: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "clang")
    monkeypatch.setenv("CFLAGS", "-O0")  # compiles in a third of the time
    assert load_library(load_build().build(tmp_path / "lfm_kernels.so")).isas == native.isas
