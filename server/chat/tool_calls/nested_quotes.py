"""Parses calls whose strings contain unescaped quotes.

Example: `say(text="He said "hi" to me")`. A quote may end a string or be part of it. A text can therefore have several
readings. It is parsed only if exactly one reading is valid, or exactly one is plausible.

A reading is implausible if a quote has no partner, as in `5" wide`. It is also implausible if a string looks like two
arguments, as in `Paris", days="3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

MAX_READINGS = 32
"""The maximum number of readings to try. Each takes linear time."""

MAX_CHARACTERS = 10_000

T = TypeVar("T")
_POSSIBLE_END = {quote: re.compile(rf"\\.|(?P<end>{quote}(?=\s*(?:[,)\]}}:]|\Z)))", re.DOTALL) for quote in "\"'"}
# Matches the border between two arguments.
_NEXT_ARGUMENT = {quote: re.compile(rf"{quote}\s*,\s*(?:{quote}|[\w.-]+\s*=)") for quote in "\"'"}
# Matches escaped quotes and apostrophes.
_NEEDS_NO_PARTNER = {quote: re.compile(rf"\\.|(?<=\w){quote}(?=\w)", re.DOTALL) for quote in "\"'"}


class QuoteChoices:
    """One reading of a text: the quotes that end its strings.

    In the first reading, each string ends as early as possible.

    plausible: whether the current reading is plausible.
    """

    def __init__(self) -> None:
        self._skipped: list[int] = []  # for each string, how many possible ends to skip
        self._has_more: list[bool] = []  # for each string of the current reading, whether there are further ends
        self.plausible = True

    def end_of_string(self, text: str, start: int, quote: str) -> int:
        """Return the position of the quote that ends the string starting at `start`.

        Raises ValueError if there is no such quote, or if two or more quotes inside the string do not enclose words.
        """
        place = len(self._has_more)
        if place == len(self._skipped):
            self._skipped.append(0)
        found = (match.start() for match in _POSSIBLE_END[quote].finditer(text, start) if match["end"])
        end = next(islice(found, self._skipped[place], None), None)
        if end is None:
            raise ValueError("unterminated string")
        self._has_more.append(next(found, None) is not None)
        body = text[start:end]
        inside = _NEEDS_NO_PARTNER[quote].sub("", body).split(quote)
        if len(inside) != 2 and not _encloses_words(inside):
            raise ValueError("the quotes inside a string enclose no words")
        if len(inside) == 2 or _NEXT_ARGUMENT[quote].search(body):
            self.plausible = False
        return end

    def next(self) -> bool:
        """Change to the next reading. Returns False if there is none."""
        del self._skipped[len(self._has_more) :]
        while self._skipped and not self._has_more[len(self._skipped) - 1]:
            self._skipped.pop()
        if self._skipped:
            self._skipped[-1] += 1
        self._has_more, self.plausible = [], True
        return bool(self._skipped)


def _encloses_words(parts: list[str]) -> bool:
    """Return whether inner quotes enclose words: `a "word" b`, but not `a' + 'b`.

    parts: the parts of the string between its inner quotes.
    """
    before = all(not part or part[-1] in " \n\t([{=" for part in parts[:-1:2])
    return len(parts) % 2 == 1 and before and all(part and part == part.strip() for part in parts[1::2])


def only_reading(read: Callable[[QuoteChoices], T]) -> T | None:
    """Return the result of `read` for the only valid or only plausible reading.

    Returns None if there is no such reading, or if there are too many readings to try.

    read: parses the text with a choice of quotes, or raises ValueError.
    """
    choices = QuoteChoices()
    results: list[T] = []
    plausible: list[T] = []
    for _ in range(MAX_READINGS):
        try:
            result = read(choices)
        except ValueError:
            pass
        else:
            results.append(result)
            plausible += [result] if choices.plausible else []
        if not choices.next():
            break
    else:
        return None  # there may be more readings
    candidates = results if len(results) == 1 else plausible
    return candidates[0] if len(candidates) == 1 else None
