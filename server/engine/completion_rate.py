"""Estimates when the queue will have room."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class CompletionRate:
    """A moving average of the time between the ends of running sequences.

    interval: average seconds between two ends.
    last: time of the last end, or of `restart` if later, in monotonic seconds.
    """

    interval: float = 1.0
    last: float = 0.0

    def restart(self) -> None:
        """Start measuring from now, so that idle time does not count."""
        self.last = time.monotonic()

    def record(self, completions: int) -> None:
        """Record that `completions` sequences have just ended."""
        if not completions:
            return
        now = time.monotonic()
        self.interval += 0.1 * ((now - self.last) / completions - self.interval)
        self.last = now

    def seconds_for(self, completions: int) -> float:
        """Return the expected seconds until `completions` more sequences end.

        The result is at least 1 and at most 120.
        """
        return min(max(1.0, completions * self.interval), 120.0)
