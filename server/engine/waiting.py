"""Who waits, and who is next: tenants take turns, so that one with many requests does not hold up one with few."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import count

from server.engine.sequence import Sequence

Entry = tuple[int, float, int, Sequence]
"""Priority, when it would be done, order of arrival, and who waits."""


class WaitingQueue:
    """Sequences that have no slot. Among one tenant's a lower priority goes first, then who would be done first."""

    def __init__(self) -> None:
        # The tenant whose turn it is comes first; who has none waiting is not there.
        self._tenants: OrderedDict[str, list[Entry]] = OrderedDict()
        self._arrivals = count()

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def __iter__(self) -> Iterator[Sequence]:
        return (entry[-1] for entries in self._tenants.values() for entry in entries)

    def of(self, tenant: str) -> int:
        """How many of a tenant's wait."""
        return len(self._tenants.get(tenant, ()))

    @property
    def tenants(self) -> Collection[str]:
        """The tenants that have sequences waiting."""
        return self._tenants.keys()

    def add(self, sequence: Sequence, due: float) -> None:
        """`due` (monotonic seconds): when its prompt would have been read, had that begun when it came."""
        self._push(sequence, due, next(self._arrivals))

    def give_back(self, sequence: Sequence) -> None:
        """Put a sequence that was set aside before its tenant's others of that priority; its tenant is next."""
        self._push(sequence, -math.inf, -next(self._arrivals))
        self._tenants.move_to_end(sequence.request.context.tenant, last=False)

    def first(self) -> Sequence | None:
        """Whose turn it is."""
        return next(iter(self._tenants.values()))[0][-1] if self._tenants else None

    def take(self) -> Sequence:
        """Take out the first; its tenant's next turn comes after everybody else's."""
        tenant, entries = next(iter(self._tenants.items()))
        sequence = heapq.heappop(entries)[-1]
        self._tenants.move_to_end(tenant)
        if not entries:
            del self._tenants[tenant]
        return sequence

    def drop_cancelled(self) -> None:
        for tenant, entries in list(self._tenants.items()):
            kept = [entry for entry in entries if not entry[-1].cancelled]
            if len(kept) < len(entries):
                heapq.heapify(kept)
                self._tenants[tenant] = kept
            if not kept:
                del self._tenants[tenant]

    def _push(self, sequence: Sequence, due: float, order: int) -> None:
        entries = self._tenants.setdefault(sequence.request.context.tenant, [])
        heapq.heappush(entries, (sequence.request.context.priority, due, order, sequence))
