"""Queues sequences that are waiting for a slot. Tenants take turns."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import count

from server.engine.sequence import Sequence

Entry = tuple[int, float, int, Sequence]
"""A sort key and its sequence: (priority, estimated finish, arrival, sequence)."""


class FairQueue:
    """A queue of sequences that are waiting for a slot.

    Tenants take turns. A tenant's sequences leave by priority, then by estimated finish, lowest first.
    """

    def __init__(self) -> None:
        # The tenant whose turn is next comes first. Tenants without waiting sequences have no entry.
        self._tenants: OrderedDict[str, list[Entry]] = OrderedDict()
        self._arrivals = count()

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def __iter__(self) -> Iterator[Sequence]:
        return (entry[-1] for entries in self._tenants.values() for entry in entries)

    def count_of(self, tenant: str) -> int:
        """Return how many sequences of `tenant` are waiting."""
        return len(self._tenants.get(tenant, ()))

    @property
    def tenants(self) -> Collection[str]:
        """Tenants with waiting sequences."""
        return self._tenants.keys()

    def add(self, sequence: Sequence, estimated_finish: float) -> None:
        """Queue a new sequence.

        estimated_finish: when prefill would end if it started at once, in monotonic seconds.
        """
        self._push(sequence, estimated_finish, next(self._arrivals))

    def requeue(self, sequence: Sequence) -> None:
        """Return a preempted or suspended sequence to the queue.

        Its tenant gets the next turn. The sequence goes before the tenant's other sequences of equal priority.
        """
        self._push(sequence, -math.inf, -next(self._arrivals))
        self._tenants.move_to_end(sequence.request.context.tenant, last=False)

    def waits(self, now: float) -> dict[str, float]:
        """Return the age of each tenant's next sequence: the seconds since its request.

        now: the current monotonic time.
        """
        return {tenant: now - entries[0][-1].queued_at for tenant, entries in self._tenants.items()}

    def give_turn(self, tenant: str) -> None:
        """Give the next turn to a tenant with waiting sequences."""
        self._tenants.move_to_end(tenant, last=False)

    def peek(self) -> Sequence | None:
        """Return the next sequence, or None if the queue is empty."""
        return next(iter(self._tenants.values()))[0][-1] if self._tenants else None

    def pop(self) -> Sequence:
        """Remove and return the next sequence. Its tenant then comes last."""
        tenant, entries = next(iter(self._tenants.items()))
        sequence = heapq.heappop(entries)[-1]
        self._tenants.move_to_end(tenant)
        if not entries:
            del self._tenants[tenant]
        return sequence

    def drop_cancelled(self) -> None:
        """Remove all cancelled sequences."""
        for tenant, entries in list(self._tenants.items()):
            kept = [entry for entry in entries if not entry[-1].cancelled]
            if len(kept) < len(entries):
                heapq.heapify(kept)
                self._tenants[tenant] = kept
            if not kept:
                del self._tenants[tenant]

    def _push(self, sequence: Sequence, estimated_finish: float, order: int) -> None:
        entries = self._tenants.setdefault(sequence.request.context.tenant, [])
        heapq.heappush(entries, (sequence.request.context.priority, estimated_finish, order, sequence))
