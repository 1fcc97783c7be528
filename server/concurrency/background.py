"""Runs work on threads that do not keep the process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_background(work: Callable[[], T], name: str) -> Future[T]:
    """Start `work`, such as a download, on a daemon thread.

    Returns a future for the result or exception of `work`. If a compiled library panics, the exception is a
    RuntimeError.

    name: name of the thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a running thread cannot be cancelled

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        except BaseException as panic:  # compiled libraries derive their panics from BaseException
            fault = RuntimeError(f"{type(panic).__name__}: {panic}")
            fault.__cause__ = panic
            future.set_exception(fault)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
