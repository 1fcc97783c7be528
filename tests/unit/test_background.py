"""Work on background threads."""

from __future__ import annotations

import pytest

from server.concurrency.background import in_background


class PanicException(BaseException):
    """As compiled libraries raise it."""


def test_work_ends_with_its_result_or_its_error() -> None:
    assert in_background(lambda: 5, "work").result(60) == 5
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0, "work").result(60)


def test_a_panic_of_a_compiled_library_ends_the_work() -> None:
    def panic() -> None:
        raise PanicException("index out of bounds")

    with pytest.raises(RuntimeError, match="index out of bounds") as raised:
        in_background(panic, "work").result(5)
    assert isinstance(raised.value.__cause__, PanicException)
