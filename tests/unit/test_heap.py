"""What is freed while a model is loaded is kept for the next buffer, and given back in the end."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest

from benchmarks.machine import anonymous_bytes
from server.runtime.heap import kept_heap

MEBIBYTE = 1 << 20


def anonymous_mebibytes() -> float:
    return anonymous_bytes(os.getpid()) / MEBIBYTE


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's heap only")
def test_freed_buffers_are_kept_in_the_block_and_given_back_behind_it() -> None:
    before = anonymous_mebibytes()
    with kept_heap():
        buffer = np.ones(64 * MEBIBYTE, np.int8)
        del buffer
        kept = anonymous_mebibytes()
    after = anonymous_mebibytes()
    assert kept - before > 60
    assert after - before < 10
