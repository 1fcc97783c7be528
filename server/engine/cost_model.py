"""How long steps take on this machine, fitted to those seen so far. Knows no sequences: plain numbers in and out."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.engine.observations import StepKind

MEMORY = 0.95
"""How much a step still counts when the next of its kind has been seen: some twenty steps make the estimate."""


@dataclass(slots=True)
class Line:
    """seconds = fixed + each * n, by least squares of the relative error over recent steps.

    Sums of 1, x, xx, y and xy, with x = 1 / n and y = seconds / n, so that y = each + fixed * x.
    """

    one: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    y: float = 0.0
    xy: float = 0.0

    def add(self, n: int, seconds: float) -> None:
        x, y = 1 / n, seconds / n
        new = (1.0, x, x * x, y, x * y)
        old = (self.one, self.x, self.xx, self.y, self.xy)
        self.one, self.x, self.xx, self.y, self.xy = (MEMORY * a + b for a, b in zip(old, new, strict=True))

    def fit(self) -> tuple[float, float]:
        """(fixed, each), neither below 0."""
        spread = self.one * self.xx - self.x * self.x
        if spread <= 1e-9 * self.one * self.xx:
            return 0.0, self.y / self.one  # all steps were alike, so only their mean is known
        fixed = max(0.0, (self.one * self.xy - self.x * self.y) / spread)
        each = (self.y - fixed * self.x) / self.one
        return (fixed, each) if each > 0 else (self.xy / self.xx, 0.0)


@dataclass(slots=True)
class CostModel:
    """Lines for each kind of step and number of threads: over rows for decode, over tokens for prefill."""

    lines: dict[tuple[StepKind, int], Line] = field(default_factory=dict)

    def observe(self, kind: StepKind, threads: int, n: int, seconds: float) -> None:
        """Take a step of `n` rows or tokens into account."""
        self.lines.setdefault((kind, threads), Line()).add(n, seconds)

    def seconds(self, kind: StepKind, threads: int, n: int) -> float:
        """What a step of `n` rows or tokens will take; 0 where none like it has been seen."""
        line = self.lines.get((kind, threads))
        if line is None or n == 0:
            return 0.0
        fixed, each = line.fit()
        return fixed + each * n

    def most(self, kind: StepKind, threads: int, seconds: float) -> int | None:
        """How many rows or tokens a step may have to take `seconds`; None where none like it has been seen."""
        line = self.lines.get((kind, threads))
        if line is None:
            return None
        fixed, each = line.fit()
        return int(max(0.0, seconds - fixed) / max(each, 1e-9))

    def least_forced(self, threads: int, rows: int) -> float:
        """How many tokens must be known ahead for one chunk of them to cost less than decoding them; inf if never.

        A chunk holds up the other `rows` - 1 sequences; decoded one by one, each token costs a row's share of a batch.
        """
        prefill = self.lines.get((StepKind.PREFILL, threads))
        if prefill is None or (StepKind.DECODE, threads) not in self.lines:
            return float("inf")
        fixed, each = prefill.fit()
        share = self.seconds(StepKind.DECODE, threads, rows) - self.seconds(StepKind.DECODE, threads, rows - 1)
        return fixed / (share - each) if share > each else float("inf")
