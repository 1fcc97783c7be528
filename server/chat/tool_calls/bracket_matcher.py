"""Tracks open brackets and string literals in text that arrives in pieces."""

from __future__ import annotations

import re

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_BRACKET_OR_QUOTE = re.compile(r"[()\[\]{}\"']")
_QUOTE_OR_BACKSLASH = {quote: re.compile(rf"[{quote}\\]") for quote in "\"'"}


class BracketMatcher:
    """A scanner that finds where an opening bracket or quote is closed.

    broken: whether a closing bracket did not match the innermost open bracket.
    """

    def __init__(self) -> None:
        self.broken = False
        self._closing: list[str] = []  # the closing brackets expected, innermost last
        self._opening = ""  # one or two quotes that may begin a string, an empty string or a triple-quoted string
        self._quote = ""  # the one or three quotes that will close the open string
        self._escaped = False  # the last character of the string was a backslash
        self._quotes_read = 0  # number of closing quotes directly before this position

    @property
    def open(self) -> bool:
        """Whether a bracket or a string is open."""
        return bool(self._closing or self._opening or self._quote)

    def start(self, symbol: str) -> None:
        """Open a bracket or a string.

        symbol: a bracket or a quote. A closing bracket sets `broken`.
        """
        if symbol in _CLOSING:
            self._closing.append(_CLOSING[symbol])
        elif symbol in ")]}":
            self.broken = True
        else:
            self._opening = symbol

    def read(self, text: str, at: int) -> int:
        """Read `text` from index `at` until all brackets and strings are closed.

        Returns the index reached. Also stops when `broken`.
        """
        while at < len(text) and self.open and not self.broken:
            if self._opening:
                at = self._read_opening(text, at)
            elif self._quote:
                at = self._read_string(text, at)
            else:
                at = self._read_brackets(text, at)
        return at

    def _read_opening(self, text: str, at: int) -> int:
        """Read the character after one or two opening quotes, which may become three."""
        quote = self._opening[0]
        if text[at] != quote:
            self._quote = self._opening if len(self._opening) == 1 else ""
            self._opening = ""
            return at
        self._opening += quote
        if len(self._opening) == 3:
            self._quote, self._opening = self._opening, ""
        return at + 1

    def _read_string(self, text: str, at: int) -> int:
        """Read to the next quote or backslash in the open string."""
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _QUOTE_OR_BACKSLASH[self._quote[0]].search(text, at)
        if found is None or found.start() > at:
            self._quotes_read = 0
        if found is None:
            return len(text)
        if found.group() == "\\":
            self._escaped, self._quotes_read = True, 0
        else:
            self._quotes_read += 1
            if self._quotes_read == len(self._quote):
                self._quote, self._quotes_read = "", 0
        return found.end()

    def _read_brackets(self, text: str, at: int) -> int:
        """Read to the next bracket or quote outside strings."""
        found = _BRACKET_OR_QUOTE.search(text, at)
        if found is None:
            return len(text)
        symbol = found.group()
        if symbol == self._closing[-1]:
            self._closing.pop()
        else:
            self.start(symbol)
        return found.end()
