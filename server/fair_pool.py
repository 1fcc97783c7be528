"""Runs work on a thread pool in which tenants take turns.

A tenant with much work therefore delays another tenant by at most one job at a time.
"""

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
    """A job that waits for a thread.

    `work`: function to call.
    `result`: future that gets the result or the exception of `work`.
    """

    work: Callable[[], Any]
    result: asyncio.Future[Any]


class FairPool:
    """A pool of `threads` threads that tenants share fairly.

    A pool must be used from one event loop only.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        # The tenant whose turn is next comes first. Tenants without waiting jobs have no entry.
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Run `work` when it is the tenant's turn, and return its result.

        Raises the exception that `work` raises. If the caller is cancelled, work that has not started is dropped, and
        work that has started runs to its end.
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
        """Remove and return the next job that is not cancelled.

        The next turn of the job's tenant comes after the turns of all other tenants. Returns None if no job is waiting.
        """
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
