"""Figures and checks of the soak's parts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.fleet import Service
from tests.scraping import Scrape


@dataclass(slots=True)
class Report:
    """A report that prints each figure at once and collects failed checks."""

    part: str
    failures: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(f"{self.part:<12} {text}", flush=True)

    def check(self, passed: bool, text: str) -> None:
        self.say(f"{'ok  ' if passed else 'FAIL'} {text}")
        if not passed:
            self.failures.append(f"{self.part}: {text}")


@dataclass(frozen=True, slots=True)
class Health:
    """Memory and open files of a server's process, from its /metrics."""

    mebibytes: float
    open_fds: float

    @classmethod
    def of(cls, server: Service) -> Health:
        scrape = Scrape(server.url)
        return cls(scrape("process_resident_memory_bytes") / 2**20, scrape("process_open_fds"))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the interpolated percentile; NaN without values."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
