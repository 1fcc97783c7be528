"""A thread pool whose tenants take turns, so that one tenant's work delays another's by one piece at most."""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    """`work` that waits for a thread, and the future that gets its result."""

    work: Callable[[], Any]
    result: asyncio.Future[Any]


class FairPool:
    """Runs work on `threads` threads. Used from one event loop only."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        # The tenant whose turn is next comes first. Tenants without waiting jobs have no entry.
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Return the result of `work`, or raise its exception, once it is the tenant's turn.

        Cancelling the caller drops work that has not started; work that has started runs to its end.
        """
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        run_in_context = contextvars.copy_context().run
        self._waiting.setdefault(tenant, deque()).append(_Job(lambda: run_in_context(work), result))
        self._start_jobs()
        return await result

    def _start_jobs(self) -> None:
        while self._free and (job := self._pop()) is not None:
            self._free -= 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, job.work)
            running.add_done_callback(lambda done, job=job: self._finish(job, done))  # type: ignore[misc]

    def _pop(self) -> _Job | None:
        """Remove and return the next job that is still wanted; its tenant's next turn comes after all others'."""
        while self._waiting:
            tenant, jobs = next(iter(self._waiting.items()))
            job = jobs.popleft()
            self._waiting.move_to_end(tenant)
            if not jobs:
                del self._waiting[tenant]
            if not job.result.cancelled():
                return job
        return None

    def _finish(self, job: _Job, done: asyncio.Future[Any]) -> None:
        self._free += 1
        error = done.exception()
        if not job.result.cancelled():
            if error is None:
                job.result.set_result(done.result())
            else:
                job.result.set_exception(error)
        self._start_jobs()
