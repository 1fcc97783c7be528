"""Tool calls that a grammar holds to its form, passed on while they are written: no call of it can be wrong.

The text is `<|tool_call_start|>[name(argument=value, **{...}), ...]<|tool_call_end|>`, its values JSON or one of True,
False and None. Text outside of blocks is content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.markers import MarkerFilter, MarkerSplitter

CONSTANTS = {"True": "true", "False": "false", "None": "null"}
STRING_END = re.compile(r'["\\]')
VALUE_SYMBOL = re.compile(r'["\[\]{},)]')


@dataclass(frozen=True, slots=True)
class CallOpened:
    """A call has begun; its arguments follow."""

    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """More of the JSON object of the last call that was opened."""

    text: str


StreamPiece = str | CallOpened | ArgumentsPiece


class _State(Enum):
    NAME = auto()  # of a function, up to "("
    ARGUMENT = auto()  # its name up to "=", or "**", or the call's end
    VALUE = auto()
    STRING = auto()


class CallStream:
    """Splits text into content and calls as it comes."""

    def __init__(self) -> None:
        self._splitter = MarkerSplitter()
        self._filter = MarkerFilter()
        self._within = False
        self._state = _State.NAME
        self._word = ""  # what was read of a name, or of a value that may be a Python constant
        self._depth = 0  # of brackets within a value
        self._escaped = False
        self._in_rest = False  # within **{...}
        self._separator = ""

    def feed(self, text: str) -> list[StreamPiece]:
        """What is certain by now."""
        pieces: list[StreamPiece] = []
        for part in self._splitter.feed(text):
            pieces += self._part(part)
        return _joined(pieces)

    def finish(self) -> list[StreamPiece]:
        """What was held back, now that nothing follows."""
        return _joined([*self._part(self._splitter.finish()), self._filter.flush()])

    def _part(self, part: str) -> list[StreamPiece]:
        quoted = self._within and self._state is _State.STRING
        if part in (CALL_START, CALL_END) and not quoted:
            self._within, self._state, self._word = part == CALL_START, _State.NAME, ""
            return []
        return self._block(part) if self._within else [self._filter.feed(part)]

    def _block(self, text: str) -> list[StreamPiece]:
        pieces: list[StreamPiece] = []
        at = 0
        while at < len(text):
            read = {
                _State.NAME: self._name,
                _State.ARGUMENT: self._argument,
                _State.VALUE: self._value,
                _State.STRING: self._string,
            }[self._state]
            at, found = read(text, at)
            pieces += found
        return pieces

    def _name(self, text: str, at: int) -> tuple[int, list[StreamPiece]]:
        """A function's name; what separates calls is passed over."""
        before, bracket, _ = text[at:].partition("(")
        self._word += before
        if not bracket:
            return len(text), []
        name = self._word.strip(" \t\n[],")
        self._state, self._word, self._separator = _State.ARGUMENT, "", ""
        return at + len(before) + 1, [self._filter.flush(), CallOpened(name), ArgumentsPiece("{")]

    def _argument(self, text: str, at: int) -> tuple[int, list[StreamPiece]]:
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
        if symbol == "{":  # of **{...}, perhaps with blanks between
            self._state, self._word, self._in_rest, self._depth = _State.VALUE, "", True, 1
        return at + 1, []

    def _value(self, text: str, at: int) -> tuple[int, list[StreamPiece]]:
        found = VALUE_SYMBOL.search(text, at)
        end = found.start() if found else len(text)
        plain = text[at:end]
        symbol = found.group() if found else ""
        if self._depth == 0:
            return self._outermost(plain, symbol, end)
        if symbol in ("]", "}"):
            self._depth -= 1
        elif symbol in ("[", "{"):
            self._depth += 1
        elif symbol == '"':
            self._state = _State.STRING
        if self._in_rest and self._depth == 0:  # its own bracket is not passed on: its members join the arguments
            passed = self._passed(plain)
            self._in_rest, self._state = False, _State.ARGUMENT
        else:
            passed = self._passed(plain + symbol)
        return end + len(symbol), passed

    def _outermost(self, plain: str, symbol: str, end: int) -> tuple[int, list[StreamPiece]]:
        """A value's first symbol, or a number or constant up to what ends it."""
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

    def _string(self, text: str, at: int) -> tuple[int, list[StreamPiece]]:
        if self._escaped:
            self._escaped = False
            return at + 1, self._passed(text[at])
        found = STRING_END.search(text, at)
        if found is None:
            return len(text), self._passed(text[at:])
        if found.group() == "\\":
            self._escaped = True
        else:
            self._state = _State.VALUE
        return found.end(), self._passed(text[at : found.end()])

    def _passed(self, text: str) -> list[StreamPiece]:
        """Text of a value as it is; the first member of **{...} comes after what is there already."""
        if self._in_rest and self._separator:
            text = text.lstrip()
            if text:
                text, self._separator = self._separator + text, ""
        return [ArgumentsPiece(text)] if text else []


class FormReader:
    """Reads an answer that a grammar holds to text of some form, or where `calls` may be made, to those instead.

    A grammar spells no special token in text: what looks like a marker there is text.
    """

    def __init__(self, calls: bool) -> None:
        self._start = ""
        self._stream = CallStream()
        self._is_text = not calls
        self._is_calls = False

    def feed(self, text: str) -> list[StreamPiece]:
        """What is certain by now."""
        if self._is_text:
            return [text] if text else []
        if self._is_calls:
            return self._stream.feed(text)
        self._start += text
        if CALL_START.startswith(self._start) and self._start != CALL_START:
            return []
        start, self._start = self._start, ""
        self._is_calls = start.startswith(CALL_START)
        self._is_text = not self._is_calls
        return self.feed(start)

    def finish(self) -> list[StreamPiece]:
        """What was held back, now that nothing follows."""
        return self._stream.finish() if self._is_calls else [self._start]


def _joined(pieces: list[StreamPiece]) -> list[StreamPiece]:
    """The same with adjacent pieces of a kind as one, and without empty ones."""
    result: list[StreamPiece] = []
    for piece in pieces:
        last = result[-1] if result else None
        if isinstance(piece, str) and isinstance(last, str):
            result[-1] = last + piece
        elif isinstance(piece, ArgumentsPiece) and isinstance(last, ArgumentsPiece):
            result[-1] = ArgumentsPiece(last.text + piece.text)
        elif piece:
            result.append(piece)
    return result
