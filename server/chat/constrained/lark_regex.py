"""Converts non-recursive grammars in Lark to regular expressions.

llguidance sometimes ends a terminal too early. A regular expression avoids this, because it is a single terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

MAX_REGEX = 1 << 18  # characters of the regular expression of one rule

COMMON = {
    "CR": r"/\r/",
    "LF": r"/\n/",
    "NEWLINE": r"/(\r?\n)+/",
    "WS": r"/[ \t\f\r\n]+/",
    "WS_INLINE": r"/[ \t]+/",
    "DIGIT": "/[0-9]/",
    "HEXDIGIT": "/[0-9a-fA-F]/",
    "INT": "/[0-9]+/",
    "SIGNED_INT": "/[+-]?[0-9]+/",
    "DECIMAL": r"/[0-9]+\.[0-9]*|\.[0-9]+/",
    "FLOAT": r"/[0-9]+[eE][+-]?[0-9]+|([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?/",
    "NUMBER": r"/([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?/",
    "SIGNED_NUMBER": r"/[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?/",
    "LCASE_LETTER": "/[a-z]/",
    "UCASE_LETTER": "/[A-Z]/",
    "LETTER": "/[a-zA-Z]/",
    "WORD": "/[a-zA-Z]+/",
    "CNAME": "/[a-zA-Z_][a-zA-Z0-9_]*/",
    "ESCAPED_STRING": r'/"([^"\\\n]|\\.)*"/',
}
"""The terminals that a grammar may import from Lark's library `common`."""

_TOKEN = re.compile(
    r"""(?P<skip>[^\S\n]+|//[^\n]*|\#[^\n]*|->\s*\w+)|(?P<newline>\n)
    |(?P<import>%import\s+common\.(?P<common>\w+)(?:\s*->\s*(?P<alias>\w+))?)
    |(?P<rule>^[?!]*(?P<name>\w+)(?:\.-?\d+)?\s*:)
    |(?P<range>"(?:\\.|[^"\\\n])"\s*\.\.\s*"(?:\\.|[^"\\\n])")
    |(?P<string>"(?:\\.|[^"\\\n])*")(?P<anycase>i?)
    |/(?P<regex>(?:\\.|[^/\\\n])+)/(?P<flags>[a-z]*)
    |(?P<repeat>~\s*(?P<least>\d+)(?:\s*\.\.\s*(?P<most>\d+))?|[?*+])
    |(?P<symbol>[()\[\]|])|(?P<reference>\w+)""",
    re.VERBOSE | re.MULTILINE,
)


class LarkRegex:
    """A converter from the rules of one grammar to regular expressions.

    quoted: receives a regular expression in the grammar, such as `[a-z]`, and its flags, such as "i". Returns the
        regular expression to use instead.
    literal: receives a string in the grammar and its flags. Returns a regular expression that matches the string.
    """

    def __init__(self, grammar: str, quoted: Callable[[str, str], str], literal: Callable[[str, str], str]) -> None:
        """Read the rules of a grammar. Raises ValueError if its syntax is not supported."""
        self._quoted = quoted
        self._literal = literal
        self._rules: dict[str, list[re.Match[str]]] = {}
        self._done: dict[str, str] = {}
        self._read(grammar)

    def regex(self, name: str = "start", inside: tuple[str, ...] = ()) -> str:
        """Return the regular expression of the rule `name`.

        inside: the rules being converted, to detect recursion.

        Raises ValueError if the rule is recursive, too large, unknown or invalid.
        """
        if name in inside:
            raise ValueError(f"the rule {name} is recursive")
        if name not in self._rules:
            raise ValueError(f"there is no rule {name}")
        if name not in self._done:
            tokens = self._rules[name]
            text, end = self._alternatives(tokens, 0, (*inside, name))
            if end < len(tokens):
                raise ValueError(f"the rule {name} has an unexpected '{tokens[end].group()}'")
            if len(text) > MAX_REGEX:
                raise ValueError(f"the rule {name} is too large")
            self._done[name] = text
        return self._done[name]

    def _read(self, grammar: str) -> None:
        position, rule = 0, ""
        while position < len(grammar):
            found = _TOKEN.match(grammar, position)
            if found is None:
                raise ValueError(f"'{grammar[position : position + 20].splitlines()[0]}' is not supported")
            position = found.end()
            if found["import"] is not None:
                if found["common"] not in COMMON:
                    raise ValueError(f"common.{found['common']} cannot be imported")
                imported = _TOKEN.match(COMMON[found["common"]])
                assert imported is not None
                self._rules[found["alias"] or found["common"]] = [imported]
            elif found["rule"] is not None:
                rule = found["name"]
                self._rules[rule] = []
            elif found["skip"] is None and found["newline"] is None:
                self._rules.setdefault(rule, []).append(found)

    def _alternatives(self, tokens: Sequence[re.Match[str]], at: int, inside: tuple[str, ...]) -> tuple[str, int]:
        """Return the regular expression of `A | B | ...`, and the index after it.

        at: index of the first token of `A`.
        """
        alternatives, sequence = [], ""
        while at < len(tokens) and tokens[at]["symbol"] not in (")", "]"):
            if tokens[at]["symbol"] == "|":
                alternatives.append(sequence)
                sequence, at = "", at + 1
                continue
            item, at = self._item(tokens, at, inside)
            while at < len(tokens) and tokens[at]["repeat"] is not None:
                item = f"(?:{item}){_repeat(tokens[at])}"
                at += 1
            sequence += item
        return f"(?:{'|'.join([*alternatives, sequence])})", at

    def _item(self, tokens: Sequence[re.Match[str]], at: int, inside: tuple[str, ...]) -> tuple[str, int]:
        found = tokens[at]
        if found["symbol"] in ("(", "["):
            text, end = self._alternatives(tokens, at + 1, inside)
            if end == len(tokens):
                raise ValueError("a bracket is not closed")
            return text + ("?" if found["symbol"] == "[" else ""), end + 1
        if found["reference"] is not None:
            return self.regex(found["reference"], inside), at + 1
        if found["regex"] is not None:
            return self._quoted(found["regex"], found["flags"]), at + 1
        if found["range"] is not None:
            first, last = (text_of(end) for end in re.findall(r'"(?:\\.|[^"\\])"', found["range"]))
            return self._quoted(f"[{re.escape(first)}-{re.escape(last)}]", ""), at + 1
        if found["string"] is not None:
            return self._literal(text_of(found["string"]), found["anycase"]), at + 1
        raise ValueError(f"'{found.group()}' has nothing to repeat")


def text_of(literal: str) -> str:
    r"""Return the text of a quoted string: `"a\n"` -> `a` and a line break."""
    escapes = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), literal[1:-1])


def _repeat(found: re.Match[str]) -> str:
    if found["least"] is None:
        return found["repeat"]
    most = found["least"] if found["most"] is None else found["most"]
    return f"{{{found['least']},{most}}}"
