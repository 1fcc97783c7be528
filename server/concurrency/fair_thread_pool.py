"""Provides a thread pool whose tenants take turns."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from server.concurrency.fair_limit import FairLimit

T = TypeVar("T")


class FairThreadPool:
    """A fixed number of threads that run the work of tenants in turn.

    Use a pool on a single event loop only.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Create a pool of `threads` threads.

        name: prefix of the threads' names.
        """
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._turns = FairLimit(threads, per_tenant=threads)

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Run `work` on a thread when it is the tenant's turn, and return its result.

        The work sees the caller's context variables. If the caller is cancelled, work that has started still
        runs to its end.
        """
        await self._turns.acquire(tenant)
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._executor, context.run, work)
        running.add_done_callback(lambda done: self._finish(tenant, done))
        return await asyncio.shield(running)

    def _finish(self, tenant: str, done: asyncio.Future[T]) -> None:
        done.exception()  # retrieve the exception: asyncio would log it if the caller has left
        self._turns.release(tenant)
