"""What is freed while a model is loaded is kept for the next buffer, and given back in the end."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

from server.runtime.heap import kept_heap

MEBIBYTE = 1 << 20


def anonymous_mebibytes() -> float:
    (kilobytes,) = re.findall(r"^Anonymous: +(\d+) kB$", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    return int(kilobytes) / 1024


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
