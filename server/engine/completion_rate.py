"""How soon there will be room again, by how fast sequences have ended of late."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class CompletionRate:
    """How long a sequence takes to make room for the next, as a moving average over recent completions (seconds)."""

    interval: float = 1.0
    last: float = 0.0

    def begin(self) -> None:
        """Nothing has run until now: this time tells nothing of how long anything takes."""
        self.last = time.monotonic()

    def count(self, finished: int) -> None:
        """So many sequences have ended just now."""
        if not finished:
            return
        now = time.monotonic()
        self.interval += 0.1 * ((now - self.last) / finished - self.interval)
        self.last = now

    def seconds_for(self, completions: int) -> float:
        """Seconds until about `completions` more sequences have ended, within the bounds a client will wait."""
        return min(max(1.0, completions * self.interval), 120.0)
