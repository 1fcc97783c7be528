"""Predicts the duration of steps from the measured durations of earlier steps.

All functions take and return plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from server.engine.observations import StepKind

DECAY = 0.95
"""The factor by which each new step reduces the weight of earlier steps.

The estimate therefore depends mostly on the last twenty steps of the same kind.
"""


@dataclass(slots=True)
class LinearFit:
    """A least-squares fit of recent step durations: seconds = fixed + per_item * n.

    n is the number of rows or tokens of a step. The fit minimises the relative error. With x = 1 / n and
    y = seconds / n, the model is y = per_item + fixed * x. The fields are the weighted sums of 1, x, x², y and xy over
    the steps.
    """

    one: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    y: float = 0.0
    xy: float = 0.0

    def add(self, n: int, seconds: float) -> None:
        """Add a step of `n` rows or tokens, and decay the weight of earlier steps."""
        x, y = 1 / n, seconds / n
        new = (1.0, x, x * x, y, x * y)
        old = (self.one, self.x, self.xx, self.y, self.xy)
        self.one, self.x, self.xx, self.y, self.xy = (DECAY * a + b for a, b in zip(old, new, strict=True))

    def solve(self) -> tuple[float, float]:
        """Return (fixed, per_item) in seconds, both at least 0."""
        spread = self.one * self.xx - self.x * self.x
        if spread <= 1e-9 * self.one * self.xx:
            return 0.0, self.y / self.one  # all steps had the same n, so only their mean is known
        fixed = max(0.0, (self.one * self.xy - self.x * self.y) / spread)
        per_item = (self.y - fixed * self.x) / self.one
        return (fixed, per_item) if per_item > 0 else (self.xy / self.xx, 0.0)


@dataclass(slots=True)
class CostModel:
    """Predicted durations of steps, with one fit per step kind and thread count.

    The duration of a decode step depends on its number of rows. The duration of a prefill step depends on its number of
    tokens.
    """

    fits: dict[tuple[StepKind, int], LinearFit] = field(default_factory=dict)

    def observe(self, kind: StepKind, threads: int, n: int, seconds: float) -> None:
        """Add the duration of a step of `n` rows or tokens."""
        self.fits.setdefault((kind, threads), LinearFit()).add(n, seconds)

    def seconds(self, kind: StepKind, threads: int, n: int) -> float:
        """Return the predicted duration, in seconds, of a step of `n` rows or tokens.

        Returns 0 if no step of this kind has been timed with this number of threads.
        """
        fit = self.fits.get((kind, threads))
        if fit is None or n == 0:
            return 0.0
        fixed, per_item = fit.solve()
        return fixed + per_item * n

    def max_count(self, kind: StepKind, threads: int, seconds: float) -> int | None:
        """Return the largest number of rows or tokens that a step completes in `seconds`.

        Returns None if no step of this kind has been timed with this number of threads.
        """
        fit = self.fits.get((kind, threads))
        if fit is None:
            return None
        fixed, per_item = fit.solve()
        return int(max(0.0, seconds - fixed) / max(per_item, 1e-9))

    def min_forced_tokens(self, threads: int, rows: int) -> float:
        """Return how many forced tokens one prefill chunk must compute to pay off.

        A constraint can force the next tokens of a sequence. They are computed together in one prefill chunk, or one by
        one in decode steps. With the returned number of tokens, both cost the same. Returns inf if a chunk never pays
        off.

        The cost is the delay of the other sequences in the batch. A prefill chunk delays them by its whole duration. A
        decode step delays them by the time that the row of this sequence adds to it.

        `rows`: number of sequences in the batch, including this one.
        """
        prefill = self.fits.get((StepKind.PREFILL, threads))
        if prefill is None or (StepKind.DECODE, threads) not in self.fits:
            return float("inf")
        fixed, per_token = prefill.solve()
        row_cost = self.seconds(StepKind.DECODE, threads, rows) - self.seconds(StepKind.DECODE, threads, rows - 1)
        return fixed / (row_cost - per_token) if row_cost > per_token else float("inf")
