"""Estimates when the queue will have room, based on recent completions."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class CompletionRate:
    """A moving average of the time between completions.

    A completion is the end of a sequence that has a slot.

    `interval`: average number of seconds between two completions.
    `last`: time of the last completion or of the last restart, whichever is later (monotonic clock, in seconds).
    """

    interval: float = 1.0
    last: float = 0.0

    def restart(self) -> None:
        """Start measuring from now.

        The engine calls this when work arrives after an idle time. The idle time would otherwise distort the average.
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

        The result is limited to 1 .. 120 seconds.
        """
        return min(max(1.0, completions * self.interval), 120.0)
