"""What is freed while a model is loaded is kept for the next buffer, and given back in the end."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# In its own process: this one's heap holds memory that other tests have freed, and would keep the settings.
FREE_A_BUFFER = """
import os
import numpy as np
from benchmarks.processes import anonymous_bytes
from server.runtime.machine.heap import kept_heap

print(anonymous_bytes(os.getpid()))
with kept_heap():
    buffer = np.ones(256 << 20, np.int8)
    del buffer
    print(anonymous_bytes(os.getpid()))
print(anonymous_bytes(os.getpid()))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's heap only")
def test_freed_buffers_are_kept_in_the_block_and_given_back_behind_it() -> None:
    command = [sys.executable, "-c", FREE_A_BUFFER]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, kept, after = (int(line) / (1 << 20) for line in printed.split())
    assert kept - before > 240
    assert after - before < 10
