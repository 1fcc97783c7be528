"""Shows the progress of a long task: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 5.0
"""Minimum time between two lines."""

Advance = Callable[[int], None]


@contextmanager
def show_progress(
    title: str,
    total: int,
    say: Callable[[str], None],
    line: Callable[[int], str],
    *,
    start: int = 0,
    unit: str = "B",
    interval: float = LINE_SECONDS,
    bar: bool = True,
) -> Iterator[Advance]:
    """Yield a function to call with the amount of work done so far.

    The function updates a bar if standard error is a terminal. Otherwise, it calls `say` with a line of text, but at
    most every `interval` seconds.

    line: returns the text for `say`, from the amount of work done.
    start: work done before this task, for example by an interrupted download. All other amounts include it.
    unit: unit of all amounts; "B" for bytes.
    bar: false to never show a bar.
    """
    with _bar(title, total, start, unit) if bar and sys.stderr.isatty() else _lines(say, line, interval) as advance:
        yield advance


@contextmanager
def _bar(title: str, total: int, start: int, unit: str) -> Iterator[Advance]:
    from tqdm import tqdm  # importing these takes 50 ms, and only a terminal needs them
    from tqdm.contrib.logging import logging_redirect_tqdm

    scale, gap = (True, "") if unit == "B" else (False, " ")
    options = {"initial": start, "unit": gap + unit, "unit_scale": scale, "miniters": 1, "leave": False}
    with logging_redirect_tqdm(), tqdm(desc=title, total=total, dynamic_ncols=True, **options) as bar:

        def advance(done: int) -> None:
            bar.update(done - bar.n)

        yield advance


@contextmanager
def _lines(say: Callable[[str], None], line: Callable[[int], str], interval: float) -> Iterator[Advance]:
    last = time.monotonic()

    def advance(done: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= interval:
            last = now
            say(line(done))

    yield advance
