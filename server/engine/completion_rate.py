"""Estimates when the queue will have room, from recent completions."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class CompletionRate:
    """Moving average of the time between completions.

    `interval`: average seconds between two completions.
    `last`: time of the latest completion, or of the start of work after idling (monotonic clock, in seconds).
    """

    interval: float = 1.0
    last: float = 0.0

    def restart(self) -> None:
        """Start measuring from now.

        Called when work arrives at an idle engine, since idle time would distort the average.
        """
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

        The result is limited to 1 .. 120.
        """
        return min(max(1.0, completions * self.interval), 120.0)
