"""Decides which replica answers a request.

The decision is a pure function of what the router knows about the replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_LEAD = 4
"""The default `max_lead` of the router (see `rank`)."""


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """A replica's load, and how much of one prompt it holds.

    prefix_tokens: number of tokens at the start of the prompt whose state the replica holds.
    ongoing: number of requests that the replica is answering or has queued.
    slots: number of requests that the replica can answer at once.
    token_seconds: time to prefill one token.
    request_seconds: average time from the end of one answer to the end of the next.
    """

    prefix_tokens: int
    ongoing: int
    slots: int = 1
    token_seconds: float = 0.0
    request_seconds: float = 0.0

    @property
    def wait_seconds(self) -> float:
        """Estimated time that a new request waits for a slot."""
        return max(0, self.ongoing + 1 - self.slots) * self.request_seconds


def rank(replicas: Sequence[ReplicaLoad], max_lead: int) -> list[int]:
    """Return the indices of `replicas`, ordered from best to worst for a prompt.

    The favourite is the replica that holds the longest prefix of the prompt. It comes first unless it is busy (see
    `is_busy`). Apart from that, the order is by load, the least loaded first.

    max_lead: maximum number of requests by which the favourite may exceed the least loaded replica.
    """
    by_prefix = sorted(range(len(replicas)), key=lambda i: (-replicas[i].prefix_tokens, replicas[i].ongoing))
    by_load = sorted(range(len(replicas)), key=lambda i: (replicas[i].ongoing, -replicas[i].prefix_tokens))
    if not replicas or is_busy(replicas[by_prefix[0]], replicas[by_load[0]], max_lead):
        return by_load
    return [by_prefix[0], *(i for i in by_load if i != by_prefix[0])]


def is_busy(favourite: ReplicaLoad, least_loaded: ReplicaLoad, max_lead: int) -> bool:
    """Return whether to pass over the favourite for the least loaded replica.

    The favourite is passed over if it exceeds the least loaded replica by over `max_lead` requests. It is also
    passed over if the longer wait for its slot costs more time than its longer prefix saves.
    """
    if favourite.ongoing - least_loaded.ongoing > max_lead:
        return True
    saved = (favourite.prefix_tokens - least_loaded.prefix_tokens) * favourite.token_seconds
    return favourite.wait_seconds - least_loaded.wait_seconds > saved
