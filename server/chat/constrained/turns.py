"""Lets tenants take turns at a few places, so that none waits for all that another has queued."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """`places` that are held one per piece of work, at most `most` of them by one tenant. Belongs to one event loop.

    Those who wait are served tenant by tenant; a tenant's own work goes in the order it came.
    """

    def __init__(self, places: int, most: int) -> None:
        self._free = places
        self._most = most
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place for the length of the block, waiting for it first."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._serve()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # the place came at the last moment
                self._give_back(tenant)
            raise
        try:
            yield
        finally:
            self._give_back(tenant)

    def _serve(self) -> None:
        """Give free places to tenants in turn."""
        for tenant in [*self._waiting]:
            turns = self._waiting[tenant]
            while turns and turns[0].cancelled():
                turns.popleft()
            if turns and self._free and self._held[tenant] < self._most:
                self._free -= 1
                self._held[tenant] += 1
                turns.popleft().set_result(None)
                self._waiting.move_to_end(tenant)
            if not turns:
                del self._waiting[tenant]

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._serve()
