"""What is left of a rate limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of one rate limit of an API key.

    kind: "requests" (concurrent requests) or "tokens" (tokens per minute).
    reset: seconds until the whole limit is available again.
    """

    kind: str
    limit: int
    remaining: int
    reset: float
