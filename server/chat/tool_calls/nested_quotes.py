"""Reads calls whose strings contain their own quote without a backslash, `say(text="He said "hi" to me")`.

Every quote may be the end of its string. A text is read if only one reading is a list of calls, or if only one of the
readings is plausible. The quotes inside a string, apart from apostrophes, must enclose words, `a "word" b`, because
`'a' + 'b'` is no string. A single one, `5" wide`, is implausible, and so is a string that contains what looks like the
end of one argument and the beginning of the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

MAX_READINGS = 32
"""The readings of one text that are tried. Each takes time linear in the length of the text."""

MAX_CHARACTERS = 10_000

T = TypeVar("T")
_POSSIBLE_END = {quote: re.compile(rf"\\.|(?P<end>{quote}(?=\s*(?:[,)\]}}:]|\Z)))", re.DOTALL) for quote in "\"'"}
_NEXT_ARGUMENT = {quote: re.compile(rf"{quote}\s*,\s*(?:{quote}|[\w.-]+\s*=)") for quote in "\"'"}
# Escaped quotes and apostrophes.
_NEEDS_NO_PARTNER = {quote: re.compile(rf"\\.|(?<=\w){quote}(?=\w)", re.DOTALL) for quote in "\"'"}


class QuoteChoices:
    """Chooses the quotes that end strings, differently in each reading: depth first, the nearest quotes first."""

    def __init__(self) -> None:
        self._skipped: list[int] = []  # for each string, how many possible ends to pass over
        self._has_more: list[bool] = []  # for each string of the current reading, whether there are further ends
        self.plausible = True

    def end_of_string(self, text: str, start: int, quote: str) -> int:
        """Return the position of the quote that ends the string which starts at `start`. Raises ValueError."""
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
        """Go on to the next reading; return False if there is none."""
        del self._skipped[len(self._has_more) :]
        while self._skipped and not self._has_more[len(self._skipped) - 1]:
            self._skipped.pop()
        if self._skipped:
            self._skipped[-1] += 1
        self._has_more, self.plausible = [], True
        return bool(self._skipped)


def _encloses_words(parts: list[str]) -> bool:
    """Return whether the quotes between `parts` open before and close after every second part."""
    before = all(not part or part[-1] in " \n\t([{=" for part in parts[:-1:2])
    return len(parts) % 2 == 1 and before and all(part and part == part.strip() for part in parts[1::2])


def only_reading(read: Callable[[QuoteChoices], T]) -> T | None:
    """Return the only result of `read`, or the only plausible one; None if there is no such result.

    `read` raises ValueError if a reading fails.
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
