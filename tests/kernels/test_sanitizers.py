"""The kernels on random operands in threads, under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kernels.sanitizers import SANITIZERS, build_fuzz, fuzz

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_a_sanitizer_finds_nothing(tmp_path: Path, sanitizer: str) -> None:
    result = fuzz(build_fuzz(sanitizer, tmp_path), seconds=2, seed=1)
    assert result.returncode == 0, result.stdout + result.stderr
