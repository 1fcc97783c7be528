"""Predicts the duration of steps from earlier steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.engine.observations import StepKind

DECAY = 0.95
"""Factor by which each new step multiplies the weight of earlier ones.

The last twenty steps of a kind have most of the weight.
"""


@dataclass(slots=True)
class LinearFit:
    """A least-squares fit of recent step durations: seconds = fixed + per_item * n.

    n is the number of rows or tokens of a step. The fit is y = per_item + fixed * x with x = 1 / n and
    y = seconds / n, so it minimizes the error per row or token. The fields are weighted sums of 1, x, x², y and xy.
    """

    one: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    y: float = 0.0
    xy: float = 0.0

    def add(self, n: int, seconds: float) -> None:
        """Add a step of `n` rows or tokens."""
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
    """Predicted durations of steps, for each step kind and thread count.

    The size of a step is its number of rows (decode) or tokens (prefill).
    """

    fits: dict[tuple[StepKind, int], LinearFit] = field(default_factory=dict)

    def observe(self, kind: StepKind, threads: int, n: int, seconds: float) -> None:
        """Add the duration of a step of size `n`."""
        self.fits.setdefault((kind, threads), LinearFit()).add(n, seconds)

    def seconds(self, kind: StepKind, threads: int, n: int) -> float:
        """Return the predicted duration of a step of size `n`, in seconds.

        Returns 0 if no step of this kind has been timed with this thread count.
        """
        fit = self.fits.get((kind, threads))
        if fit is None or n == 0:
            return 0.0
        fixed, per_item = fit.solve()
        return fixed + per_item * n

    def max_count(self, kind: StepKind, threads: int, seconds: float) -> int | None:
        """Return the largest size of a step that takes at most `seconds`.

        Returns None if no step of this kind has been timed with this thread count.
        """
        fit = self.fits.get((kind, threads))
        if fit is None:
            return None
        fixed, per_item = fit.solve()
        return int(max(0.0, seconds - fixed) / max(per_item, 1e-9))

    def min_forced_tokens(self, threads: int, rows: int) -> float:
        """Return the minimum number of forced tokens for which a prefill chunk pays off.

        A token is forced if a constraint allows no other. A chunk computes all forced tokens of a sequence at once, but
        delays the decode batch. Without a chunk, each forced token adds a row to a decode step. Returns inf if a chunk
        never pays off or the steps have not been timed.

        rows: number of sequences in the batch.
        """
        prefill = self.fits.get((StepKind.PREFILL, threads))
        if prefill is None or (StepKind.DECODE, threads) not in self.fits:
            return float("inf")
        fixed, per_token = prefill.solve()
        row_cost = self.seconds(StepKind.DECODE, threads, rows) - self.seconds(StepKind.DECODE, threads, rows - 1)
        return fixed / (row_cost - per_token) if row_cost > per_token else float("inf")
