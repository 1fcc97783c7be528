"""Random operands and failing calls under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.sanitizers import SANITIZERS, build_fuzz, build_program, fuzz

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")]


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_a_sanitizer_finds_nothing(tmp_path: Path, sanitizer: str) -> None:
    result = fuzz(build_fuzz(sanitizer, tmp_path), seconds=2, seed=1)
    assert result.returncode == 0, result.stdout + result.stderr


def test_operators_give_everything_back_whichever_call_of_onnxruntime_fails(tmp_path: Path) -> None:
    program = build_program("faults", "address", tmp_path)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
