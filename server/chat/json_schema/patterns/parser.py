"""Parses regular expressions, in the syntax that ECMA 262 and Rust share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from server.chat.json_schema.patterns.characters import CLASSES, Ranges, inverse, one_of, union

MAX_GROUPS = 30  # nested groups
MAX_COUNT = 1_000  # repetitions

_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_HEX_DIGITS = {"x": 2, "u": 4}
_NOT_A_NEWLINE = inverse(one_of("\n"))


class UnreadablePatternError(Exception):
    """A pattern cannot be read or is too costly."""


@dataclass(frozen=True, slots=True)
class Characters:
    """Any single character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Anchor:
    """The start ("^") or the end ("$") of the text."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """All parts, one after another."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Any one of the parts."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A part that occurs `low` to `high` times, or at least `low` if `high` is None."""

    part: Expression
    low: int
    high: int | None


Expression = Characters | Anchor | Sequence | Alternatives | Repetition


def parsed(pattern: str) -> Expression:
    """Return the expression that `pattern` describes.

    Raises UnreadablePatternError if the syntax is unsupported or a limit is exceeded.
    """
    return _Parser(pattern).result()


class _Parser:
    """A parser of one pattern by recursive descent."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._groups = 0

    def result(self) -> Expression:
        expression = self._alternatives()
        if self._at < len(self._text):
            self._fail()
        return expression

    def _fail(self) -> NoReturn:
        raise UnreadablePatternError(f"cannot read the pattern at character {self._at}")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        if self._at >= len(self._text):
            self._fail()
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self, text: str) -> bool:
        """Skip `text` if it comes next, and return whether it did."""
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _alternatives(self) -> Expression:
        parts = [self._sequence()]
        while self._skip("|"):
            parts.append(self._sequence())
        return Alternatives(tuple(parts))

    def _sequence(self) -> Expression:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return Sequence(tuple(parts))

    def _quantified(self, part: Expression) -> Expression:
        quantifier = self._next()
        if quantifier not in ("*", "+", "?", "{"):
            return part
        self._at += 1
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(quantifier) or self._counts()
        self._skip("?")  # a lazy quantifier matches the same texts
        if isinstance(part, Anchor) or self._next() in ("*", "+", "?", "{"):
            self._fail()
        return Repetition(part, low, high)

    def _counts(self) -> tuple[int, int | None]:
        """Read the rest of counts such as `{2,5}`; the opening brace is already consumed."""
        low = self._count()
        high: int | None = low
        if self._skip(","):
            high = None if self._next() == "}" else self._count()
        if not self._skip("}") or (high is not None and high < low):
            self._fail()
        return low, high

    def _count(self) -> int:
        digits = ""
        while self._next() in set("0123456789") and len(digits) < 5:
            digits += self._take()
        if not digits or int(digits) > MAX_COUNT:
            self._fail()
        return int(digits)

    def _atom(self) -> Expression:
        character = self._take()
        if character in "*+?{}]":
            self._fail()
        match character:
            case "(":
                return self._group()
            case "[":
                return Characters(self._class())
            case ".":
                return Characters(_NOT_A_NEWLINE)
            case "^" | "$":
                return Anchor(character)
            case "\\":
                return Characters(self._escape())
        return Characters(one_of(character))

    def _group(self) -> Expression:
        if not self._skip("?:") and self._next() == "?":
            self._fail()
        self._groups += 1
        if self._groups > MAX_GROUPS:
            self._fail()
        expression = self._alternatives()
        self._groups -= 1
        if not self._skip(")"):
            self._fail()
        return expression

    def _class(self) -> Ranges:
        """Read the rest of a class such as `[a-z]`; the bracket is already consumed."""
        negated = self._skip("^")
        ranges: list[tuple[int, int]] = []
        while not self._skip("]"):
            low = self._member()
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._member()
                if not (_is_single(low) and _is_single(high) and low <= high):
                    self._fail()
                low = ((low[0][0], high[0][0]),)
            ranges += low
        if not ranges:
            self._fail()
        return inverse(union(ranges)) if negated else union(ranges)

    def _member(self) -> Ranges:
        character = self._take()
        if character == "\\":
            return self._escape()
        # Rust reads a bracket as a nested class and doubled operators as operations on classes.
        if character == "[" or (character in "&-~" and self._next() == character):
            self._fail()
        return one_of(character)

    def _escape(self) -> Ranges:
        r"""Read the rest of an escape such as `\d`; the backslash is already consumed."""
        character = self._take()
        if character.lower() in CLASSES:
            ranges = CLASSES[character.lower()]
            return ranges if character.islower() else inverse(ranges)
        if character in _HEX_DIGITS:
            digits = "".join(self._take() for _ in range(_HEX_DIGITS[character]))
            if not all(one in "0123456789abcdefABCDEF" for one in digits):
                self._fail()
            return one_of(chr(int(digits, 16)))
        if character in _CONTROLS:
            return one_of(_CONTROLS[character])
        if not character.isascii() or character.isalnum():
            self._fail()
        return one_of(character)


def _is_single(ranges: Ranges) -> bool:
    """Return whether `ranges` contains a single character."""
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
