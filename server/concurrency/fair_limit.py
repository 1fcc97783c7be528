"""Limits how many tasks run at once, and lets tenants take turns."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairLimit:
    """A fair limit on the number of tasks that run at once.

    Each running task holds a place. Tenants get places in turn. Use it on one event loop only.
    """

    def __init__(self, places: int, per_tenant: int) -> None:
        """Create a limit with all places free.

        places: maximum number of tasks that run at once.
        per_tenant: maximum number of places that one tenant may hold at once.
        """
        self._free = places
        self._per_tenant = per_tenant
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, tenant: str) -> None:
        """Wait for a place and take it. The caller must call `release` later."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # the place was assigned just before the caller was cancelled
                self.release(tenant)
            raise

    def release(self, tenant: str) -> None:
        """Give back a place that `tenant` holds."""
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._hand_out()

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place during an `async with` block."""
        await self.acquire(tenant)
        try:
            yield
        finally:
            self.release(tenant)

    def _hand_out(self) -> None:
        """Assign free places to waiting tenants in turn."""
        for tenant in [*self._waiting]:
            turns = self._waiting[tenant]
            while turns and turns[0].cancelled():
                turns.popleft()
            if turns and self._free and self._held[tenant] < self._per_tenant:
                self._free -= 1
                self._held[tenant] += 1
                turns.popleft().set_result(None)
                self._waiting.move_to_end(tenant)
            if not turns:
                del self._waiting[tenant]
