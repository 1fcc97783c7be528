"""Waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.05  # seconds; a long wait takes little CPU time from what it waits for


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Poll until `condition` is true. Raises AssertionError after `seconds`."""
    give_up, pause = time.monotonic() + seconds, SHORTEST_PAUSE
    while not condition():
        assert time.monotonic() < give_up, f"the condition was still false after {seconds:g} s"
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
