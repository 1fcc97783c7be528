"""Parses tool calls whose syntax a grammar enforces, while they are generated.

A block of calls is `<|tool_call_start|>[name(argument=value, **{...}), ...]<|tool_call_end|>`. Text outside blocks is
content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.marker_splitter import MarkerFilter, MarkerSplitter

CONSTANTS = {"True": "true", "False": "false", "None": "null"}
STRING_END = re.compile(r'["\\]')
VALUE_SYMBOL = re.compile(r'["\[\]{},)]')


@dataclass(frozen=True, slots=True)
class CallOpened:
    """The start of a call. Its arguments follow."""

    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """The next piece of the JSON arguments of the call that was opened last."""

    text: str


ConstrainedPiece = str | CallOpened | ArgumentsPiece


class _State(Enum):
    """The part of a block that the parser reads next."""

    NAME = auto()  # a function's name, up to "("
    ARGUMENT = auto()  # an argument's name up to "=", or "**{", or the ")" of the call
    VALUE = auto()
    STRING = auto()  # a string inside a value


class ConstrainedCallParser:
    """A parser that splits an answer into content and calls while it is generated."""

    def __init__(self) -> None:
        self._splitter = MarkerSplitter()
        self._filter = MarkerFilter()
        self._in_block = False
        self._state = _State.NAME
        self._word = ""  # the text read so far of a name, or of a value that may be a Python constant
        self._depth = 0  # number of open brackets in the value
        self._escaped = False  # the last character of the string was a backslash
        self._in_rest = False  # inside the object after "**"
        self._separator = ""  # goes before the next argument

    def feed(self, text: str) -> list[ConstrainedPiece]:
        """Parse the next part of the answer. Returns new content and pieces of calls."""
        pieces: list[ConstrainedPiece] = []
        for part in self._splitter.feed(text):
            pieces += self._part(part)
        return _joined(pieces)

    def finish(self) -> list[ConstrainedPiece]:
        """End the answer and return the text that was held back."""
        return _joined([*self._part(self._splitter.finish()), self._filter.flush()])

    def _part(self, part: str) -> list[ConstrainedPiece]:
        """Process a marker, or the text between two markers."""
        quoted = self._in_block and self._state is _State.STRING  # then a marker is text
        if part in (CALL_START, CALL_END) and not quoted:
            self._in_block, self._state, self._word = part == CALL_START, _State.NAME, ""
            return []
        return self._block(part) if self._in_block else [self._filter.feed(part)]

    def _block(self, text: str) -> list[ConstrainedPiece]:
        pieces: list[ConstrainedPiece] = []
        at = 0
        while at < len(text):
            read = {
                _State.NAME: self._name,
                _State.ARGUMENT: self._argument,
                _State.VALUE: self._value,
                _State.STRING: self._string,
            }[self._state]
            at, found = read(text, at)  # (position reached, pieces found)
            pieces += found
        return pieces

    def _name(self, text: str, at: int) -> tuple[int, list[ConstrainedPiece]]:
        """Read a function's name, skipping the separators before it."""
        before, bracket, _ = text[at:].partition("(")
        self._word += before
        if not bracket:
            return len(text), []
        name = self._word.strip(" \t\n[],")
        self._state, self._word, self._separator = _State.ARGUMENT, "", ""
        return at + len(before) + 1, [self._filter.flush(), CallOpened(name), ArgumentsPiece("{")]

    def _argument(self, text: str, at: int) -> tuple[int, list[ConstrainedPiece]]:
        """Read one character of an argument's name, or the end of the call."""
        symbol = text[at]
        self._word += symbol
        word = self._word.strip(" \t\n,")
        if symbol == ")":
            self._state, self._word = _State.NAME, ""
            return at + 1, [ArgumentsPiece("}")]
        if symbol == "=":
            self._state, self._word = _State.VALUE, ""
            piece = f'{self._separator}"{word[:-1].rstrip()}": '
            self._separator = ", "
            return at + 1, [ArgumentsPiece(piece)]
        if symbol == "{":  # the start of the object after "**"
            self._state, self._word, self._in_rest, self._depth = _State.VALUE, "", True, 1
        return at + 1, []

    def _value(self, text: str, at: int) -> tuple[int, list[ConstrainedPiece]]:
        """Read to the next bracket, quote or comma of a value."""
        found = VALUE_SYMBOL.search(text, at)
        end = found.start() if found else len(text)
        plain = text[at:end]
        symbol = found.group() if found else ""
        if self._depth == 0:
            return self._value_start(plain, symbol, end)
        if symbol in ("]", "}"):
            self._depth -= 1
        elif symbol in ("[", "{"):
            self._depth += 1
        elif symbol == '"':
            self._state = _State.STRING
        if self._in_rest and self._depth == 0:  # the members of this object are arguments, so its bracket is dropped
            pieces = self._value_pieces(plain)
            self._in_rest, self._state = False, _State.ARGUMENT
        else:
            pieces = self._value_pieces(plain + symbol)
        return end + len(symbol), pieces

    def _value_start(self, plain: str, symbol: str, end: int) -> tuple[int, list[ConstrainedPiece]]:
        """Read the opening bracket or quote of a value, or all of a number or constant."""
        self._word += plain
        if not symbol:
            return end, []
        word = self._word.strip()
        self._word = ""
        if symbol in (",", ")"):
            self._state = _State.ARGUMENT
            return end, [ArgumentsPiece(CONSTANTS.get(word, word))] if word else []
        if symbol == '"':
            self._state = _State.STRING
        else:
            self._depth = 1
        return end + 1, [ArgumentsPiece(symbol)]

    def _string(self, text: str, at: int) -> tuple[int, list[ConstrainedPiece]]:
        """Read to the next backslash in a string or to its end."""
        if self._escaped:
            self._escaped = False
            return at + 1, self._value_pieces(text[at])
        found = STRING_END.search(text, at)
        if found is None:
            return len(text), self._value_pieces(text[at:])
        if found.group() == "\\":
            self._escaped = True
        else:
            self._state = _State.VALUE
        return found.end(), self._value_pieces(text[at : found.end()])

    def _value_pieces(self, text: str) -> list[ConstrainedPiece]:
        """Return `text`, a part of a value, as pieces of the call's JSON object.

        Adds the comma before the first member of `**{...}`. Example: `name(a=1, **{"b c": 2})` becomes
        `{"a": 1, "b c": 2}`.
        """
        if self._in_rest and self._separator:
            text = text.lstrip()
            if text:
                text, self._separator = self._separator + text, ""
        return [ArgumentsPiece(text)] if text else []


class TextOrCallsParser:
    """A parser of answers that are either text or calls.

    An answer that starts with CALL_START consists of calls.

    may_call: whether the answer may consist of calls.
    """

    def __init__(self, may_call: bool) -> None:
        self._start = ""
        self._calls = ConstrainedCallParser()
        self._is_text = not may_call
        self._is_calls = False

    def feed(self, text: str) -> list[ConstrainedPiece]:
        """Parse the next part of the answer. Returns new content and pieces of calls."""
        if self._is_text:
            return [text] if text else []
        if self._is_calls:
            return self._calls.feed(text)
        self._start += text
        if CALL_START.startswith(self._start) and self._start != CALL_START:
            return []
        start, self._start = self._start, ""
        self._is_calls = start.startswith(CALL_START)
        self._is_text = not self._is_calls
        return self.feed(start)

    def finish(self) -> list[ConstrainedPiece]:
        """End the answer and return the text that was held back."""
        return self._calls.finish() if self._is_calls else [self._start]


def _joined(pieces: list[ConstrainedPiece]) -> list[ConstrainedPiece]:
    """Join adjacent pieces of the same type and drop empty content."""
    result: list[ConstrainedPiece] = []
    for piece in pieces:
        last = result[-1] if result else None
        if isinstance(piece, str) and isinstance(last, str):
            result[-1] = last + piece
        elif isinstance(piece, ArgumentsPiece) and isinstance(last, ArgumentsPiece):
            result[-1] = ArgumentsPiece(last.text + piece.text)
        elif piece:
            result.append(piece)
    return result
