"""The remaining quota of an API key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """One rate limit of an API key, and what remains of it.

    kind: "requests" (at once) or "tokens" (per minute).
    reset: seconds until the whole limit is available again.
    """

    kind: str
    limit: int
    remaining: int
    reset: float
