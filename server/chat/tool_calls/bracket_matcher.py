"""Which brackets and string literals are open, in text that comes in pieces."""

from __future__ import annotations

import re

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_BRACKET_OR_QUOTE = re.compile(r"[()\[\]{}\"']")
_QUOTE_OR_BACKSLASH = {quote: re.compile(rf"[{quote}\\]") for quote in "\"'"}


class Nesting:
    """Follows text from an opening bracket or quote to where it is closed."""

    def __init__(self) -> None:
        self.broken = False  # a bracket closes nothing, or one of another kind
        self._closing: list[str] = []  # the brackets that are waited for
        self._opening = ""  # a quote, or two: which string they open is not certain yet
        self._quote = ""  # of the string that is open
        self._escaped = False
        self._quotes_read = 0  # of a closing triple quote

    @property
    def open(self) -> bool:
        return bool(self._closing or self._opening or self._quote)

    def start(self, symbol: str) -> None:
        """Opens a bracket or a quote; a closing bracket closes nothing here."""
        if symbol in _CLOSING:
            self._closing.append(_CLOSING[symbol])
        elif symbol in ")]}":
            self.broken = True
        else:
            self._opening = symbol

    def read(self, text: str, at: int) -> int:
        """Reads on from `at` while something is open; returns where it is not, or the text's length."""
        while at < len(text) and self.open and not self.broken:
            if self._opening:
                at = self._read_opening(text, at)
            elif self._quote:
                at = self._read_string(text, at)
            else:
                at = self._read_brackets(text, at)
        return at

    def _read_opening(self, text: str, at: int) -> int:
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
        found = _BRACKET_OR_QUOTE.search(text, at)
        if found is None:
            return len(text)
        symbol = found.group()
        if symbol == self._closing[-1]:
            self._closing.pop()
        else:
            self.start(symbol)
        return found.end()
