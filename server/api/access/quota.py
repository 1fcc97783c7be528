"""Defines the remaining quota of an API key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """One rate limit of an API key, and the part of it that remains.

    kind: "requests" (concurrent requests) or "tokens" (tokens per minute).
    reset: seconds until the whole limit is available again.
    """

    kind: str
    limit: int
    remaining: int
    reset: float
