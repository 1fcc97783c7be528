"""Parses calls whose strings contain unescaped quotes.

An example is `say(text="He said "hi" to me")`. A quote may end a string or be a part of it, so a text can have several
readings. Readings that are not lists of calls are dropped. If several are left, the implausible ones are dropped as
well. The text is parsed only if exactly one reading is left.

Quotes inside a string, apart from apostrophes, must enclose words, as in `a "word" b`. So `'a' + 'b'` cannot be one
string. A reading is implausible if a string contains a quote without a partner, as in `5" wide`, or text that looks
like the border between two arguments, as in `Paris", days="3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

MAX_READINGS = 32
"""The most readings to try; each takes time linear in the length of the text."""

MAX_CHARACTERS = 10_000

T = TypeVar("T")
_POSSIBLE_END = {quote: re.compile(rf"\\.|(?P<end>{quote}(?=\s*(?:[,)\]}}:]|\Z)))", re.DOTALL) for quote in "\"'"}
_NEXT_ARGUMENT = {quote: re.compile(rf"{quote}\s*,\s*(?:{quote}|[\w.-]+\s*=)") for quote in "\"'"}
# Matches escaped quotes and apostrophes.
_NEEDS_NO_PARTNER = {quote: re.compile(rf"\\.|(?<=\w){quote}(?=\w)", re.DOTALL) for quote in "\"'"}


class QuoteChoices:
    """The current reading of a text: the choice of the quotes that end its strings.

    In the first reading, each string ends at the nearest possible quote. The method `next` changes to the next reading,
    in depth-first order.

    plausible: whether the current reading is plausible.
    """

    def __init__(self) -> None:
        self._skipped: list[int] = []  # for each string, how many possible ends to skip
        self._has_more: list[bool] = []  # for each string of the current reading, whether there are further ends
        self.plausible = True

    def end_of_string(self, text: str, start: int, quote: str) -> int:
        """Return the position of the quote that ends the string starting at `start`.

        Raises ValueError if no quote can end the string, or if the quotes inside the string do not enclose words.
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
        """Change to the next reading; return False if there are no more readings."""
        del self._skipped[len(self._has_more) :]
        while self._skipped and not self._has_more[len(self._skipped) - 1]:
            self._skipped.pop()
        if self._skipped:
            self._skipped[-1] += 1
        self._has_more, self.plausible = [], True
        return bool(self._skipped)


def _encloses_words(parts: list[str]) -> bool:
    """Return whether the inner quotes of a string enclose words.

    parts: the parts of the string between its inner quotes.
    """
    before = all(not part or part[-1] in " \n\t([{=" for part in parts[:-1:2])
    return len(parts) % 2 == 1 and before and all(part and part == part.strip() for part in parts[1::2])


def only_reading(read: Callable[[QuoteChoices], T]) -> T | None:
    """Return the result of `read` if a text has only one possible reading.

    read: parses the text with the given choice of quotes, and raises ValueError if the text cannot be parsed.

    If several readings can be parsed but only one of them is plausible, returns the result for that one. Otherwise
    returns None. Also returns None if there are more than MAX_READINGS readings.
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
