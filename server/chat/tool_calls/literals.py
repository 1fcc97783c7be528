"""Converts JSON and Python literals to JSON text without evaluating them."""

from __future__ import annotations

import json
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping

MAX_DEPTH = 100

_NOT_SPACE = re.compile(r"\S")
_WORD = re.compile(r"\w+")
_CONSTANTS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}

# Possessive groups are also atomic in this package, because `re` mishandles others before Python 3.11.5
# (https://github.com/python/cpython/issues/106052).
_DIGITS = r"[0-9]++(?>_[0-9]++)*+"
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?:"
    r"(?P<radix>0[xX](?>_?[0-9a-fA-F])++|0[oO](?>_?[0-7])++|0[bB](?>_?[01])++)"
    rf"|(?=\.?[0-9])(?P<whole>(?:{_DIGITS})?)(?P<fraction>(?:\.(?:{_DIGITS})?)?)(?P<exponent>(?:[eE][+-]?{_DIGITS})?))"
)

_OPENING = re.compile(r"""([rRuU]?)(\"""|'''|"|')""")
_ESCAPED = r"\\(?:\r\n|.)"
_REST_OF_STRING = {
    '"': re.compile(rf'((?>[^"\\]++|{_ESCAPED})*+)"', re.DOTALL),
    "'": re.compile(rf"((?>[^'\\]++|{_ESCAPED})*+)'", re.DOTALL),
    '"""': re.compile(rf'((?>[^"\\]++|{_ESCAPED}|"(?!""))*+)"""', re.DOTALL),
    "'''": re.compile(rf"((?>[^'\\]++|{_ESCAPED}|'(?!''))*+)'''", re.DOTALL),
}
_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|N\{(?P<name>[^}]*)\}|(?P<other>\r\n|.))",
    re.DOTALL,
)
_ESCAPED_CHARACTERS = dict(zip("\\'\"abfnrtv", "\\'\"\a\b\f\n\r\t\v", strict=True)) | {"\n": "", "\r": "", "\r\n": ""}


def string_text(value: str) -> str:
    """Return a string as JSON text that can be encoded in UTF-8.

    A pair of surrogates becomes its character. A single surrogate becomes U+FFFD.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return json.dumps(value, ensure_ascii=False)


def object_text(members: Mapping[str, str]) -> str:
    """Return the text of a JSON object.

    members: maps each name to the JSON text of its value.
    """
    return "{" + ", ".join(f"{string_text(name)}: {value}" for name, value in members.items()) + "}"


class LiteralReader:
    """A parser that reads a text from left to right and skips whitespace.

    Its methods raise ValueError if the syntax is wrong.

    end_of_string: returns the index of a string's closing quote, given the text, the string's start and its quote. If
        None, the first matching quote that is not escaped closes the string.
    """

    def __init__(self, text: str, end_of_string: Callable[[str, int, str], int] | None = None) -> None:
        self._text = text
        self._end_of_string = end_of_string
        self._at = 0
        self._depth = 0

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Consume and return a match of `pattern`, or return None if none comes next."""
        self._skip_space()
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def is_next(self, symbol: str) -> bool:
        """Return whether `symbol` comes next."""
        self._skip_space()
        return self._text.startswith(symbol, self._at)

    def accept(self, symbol: str) -> bool:
        """Consume `symbol` if it comes next, and return whether it did."""
        if not self.is_next(symbol):
            return False
        self._at += len(symbol)
        return True

    def expect(self, symbol: str) -> None:
        """Consume `symbol`, or raise ValueError if it does not come next."""
        if not self.accept(symbol):
            raise self.error(f"expected {symbol!r}")

    def expect_end(self) -> None:
        """Raise ValueError if anything but whitespace is left."""
        self._skip_space()
        if self._at < len(self._text):
            raise self.error("expected the end of the text")

    def error(self, message: str) -> ValueError:
        """Return an error that names the current position."""
        return ValueError(f"{message} at character {self._at}")

    def value(self) -> str:
        """Consume a literal and return it as JSON text. Tuples and sets become arrays."""
        if self.accept("{"):
            return self._object_or_set()
        if self.accept("["):
            return "[" + ", ".join(self._items("]")[0]) + "]"
        if self.accept("("):
            items, is_tuple = self._items(")")
            return "[" + ", ".join(items) + "]" if is_tuple else items[0]
        if (string := self._string()) is not None:
            return string_text(string)
        if number := self.match(_NUMBER):
            return _number_text(number)
        word = self.match(_WORD)
        if word is None or word.group() not in _CONSTANTS:
            raise self.error("expected a literal")
        return _CONSTANTS[word.group()]

    def members(self) -> dict[str, str]:
        """Consume an object and return the JSON text of its values by name.

        If a name is repeated, its last value counts.
        """
        self.expect("{")
        self._enter()
        members: dict[str, str] = {}
        if not self.accept("}"):
            self._rest_of_members(members, _key(self.value()))
        self._depth -= 1
        return members

    def _rest_of_members(self, members: dict[str, str], key: str) -> None:
        """Consume an object after its first key, and add its members to `members`.

        key: the first key, already consumed.
        """
        self.expect(":")
        members[key] = self.value()
        while self.accept(","):
            if self.accept("}"):
                return
            key = _key(self.value())
            self.expect(":")
            members[key] = self.value()
        self.expect("}")

    def _object_or_set(self) -> str:
        """Consume the part of an object or set after its "{", and return JSON text."""
        if self.accept("}"):
            return "{}"
        self._enter()
        first = self.value()
        if self.is_next(":"):  # an object; otherwise a set
            members: dict[str, str] = {}
            self._rest_of_members(members, _key(first))
            self._depth -= 1
            return object_text(members)
        items = [first]
        if self.accept(","):
            items += self._items("}")[0]
        else:
            self.expect("}")
        self._depth -= 1
        return "[" + ", ".join(items) + "]"

    def _items(self, closing: str) -> tuple[list[str], bool]:
        """Consume values up to `closing`.

        Returns the values, and whether parentheses around them make a tuple, as in `(1,)`.
        """
        self._enter()
        items: list[str] = []
        comma = False
        while not self.accept(closing):
            items.append(self.value())
            comma = self.accept(",")
            if not comma:
                self.expect(closing)
                break
        self._depth -= 1
        return items, comma or len(items) != 1

    def _string(self) -> str | None:
        """Consume adjacent string literals and return them as one string.

        `"a" 'b'` is "ab", as in Python. Returns None if no string comes next.
        """
        parts: list[str] = []
        while opening := self.match(_OPENING):
            prefix, quote = opening.groups()
            if self._end_of_string is not None and len(quote) == 1:
                end = self._end_of_string(self._text, self._at, quote)
                parts.append(_string_value(prefix, quote, self._text[self._at : end]))
                self._at = end + 1
                continue
            rest = _REST_OF_STRING[quote].match(self._text, self._at)
            if rest is None:
                raise self.error("unterminated string")
            self._at = rest.end()
            parts.append(_string_value(prefix, quote, rest[1]))
        return "".join(parts) if parts else None

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} levels deep")

    def _skip_space(self) -> None:
        found = _NOT_SPACE.search(self._text, self._at)
        self._at = found.start() if found else len(self._text)


def _key(value: str) -> str:
    """Convert a literal to an object's key: `1e2` -> "100.0", `true` -> "true"."""
    if value[0] in "[{":
        raise ValueError("an object or array cannot be a key")
    if value[0] == '"':
        return str(json.loads(value))
    # as json.dumps does
    is_float = value[-1].isdigit() and not value.removeprefix("-").isdigit()
    return repr(float(value)) if is_float else "0" if value == "-0" else value


def _number_text(number: re.Match[str]) -> str:
    """Return a number as JSON text.

    Keeps decimal digits as written, without leading zeros. Converts other bases to decimal.

    Raises ValueError if a number with a fraction or an exponent is too large for a float.
    """
    sign = "-" if number["sign"] == "-" else ""
    if number["radix"]:
        return f"{sign}{int(number['radix'].replace('_', ''), 0)}"
    whole, fraction, exponent = (number[part].replace("_", "") for part in ("whole", "fraction", "exponent"))
    significant = whole.lstrip("0")
    if not fraction and not exponent:
        return sign + (significant or "0")
    text = sign + (significant or "0") + (fraction + "0" if fraction == "." else fraction) + exponent
    if math.isinf(float(text)):
        raise ValueError(f"{text} is too large for a float")
    return text


def _string_value(prefix: str, quote: str, body: str) -> str:
    """Return the value of a string literal.

    Reads double-quoted strings as JSON if possible. Otherwise Python's escapes apply.
    """
    if "\\" not in body or prefix in ("r", "R"):
        return body
    if quote == '"' and not prefix:
        try:
            return str(json.loads(f'"{body}"', strict=False))  # allow line breaks that are not escaped
        except ValueError:
            pass  # not valid in JSON, so Python's escapes apply
    return _ESCAPE.sub(_escaped_character, body)


def _escaped_character(escape: re.Match[str]) -> str:
    """Return the character of a Python escape sequence."""
    kind, code = escape.lastgroup, escape[escape.lastgroup or 0]
    if kind == "octal":
        return chr(int(code, 8))
    if kind == "name":
        try:
            return unicodedata.lookup(code)
        except KeyError:
            raise ValueError(f"no character has the name {code}") from None
    if kind != "other":
        if int(code, 16) > sys.maxunicode:
            raise ValueError(f"no character has the number {code}")
        return chr(int(code, 16))
    if code in "xuUN":
        raise ValueError(f"the escape sequence \\{code} is incomplete")
    return _ESCAPED_CHARACTERS.get(code, "\\" + code)
