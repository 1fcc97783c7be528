r"""Builds rules for JSON strings whose value must match a grammar or regex.

JSON escapes some characters: a line break becomes `\n`. So each character class is replaced by an expression that
matches its characters as JSON writes them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

from server.chat.constrained.lark import MAX_GRAMMAR, between_slashes, without_anchors
from server.chat.constrained.lark_regex import LarkRegex
from server.chat.types import TextForm
from server.errors import InvalidRequestError

ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
"""The short JSON escapes. Other control characters are not supported."""

_ORDINARY = r"""[^"\\\x00-\x1F]"""
_ATOM = re.compile(
    r"(?P<set>\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\])|(?P<group>\(\?(?:[a-zA-Z]*:)?)|(?P<dot>\.)"
    r"|(?P<class>\\[dDwWsS]|\\[pP]\{\w+\}|\\x\{?[0-9a-fA-F]+\}?|\\u\{?[0-9a-fA-F]+\}?|\\[^\w\s]|\\[nrtfv0]|[\"\n\r\t])",
    re.DOTALL,
)


def quoted_text(form: TextForm) -> str:
    """Return the body of a rule for JSON strings whose value matches `form`.

    form: a regular expression or a grammar in Lark.

    Raises InvalidRequestError if `form` cannot be enforced.
    """
    try:
        if len(form.value) > MAX_GRAMMAR:
            raise ValueError(f"it has more than {MAX_GRAMMAR:,} characters")
        if form.kind == "regex":
            expression = _quoted(without_anchors(form.value), "")
        else:
            expression = LarkRegex(form.value, _quoted, _quoted_literal).regex()
    except (ValueError, re.error, RecursionError) as error:
        message = f"`{form.field}` cannot be enforced: {error}."
        raise InvalidRequestError(message, form.field, "invalid_json_schema") from None
    return f'/"(?:{between_slashes(expression)})"/'


def _quoted(pattern: str, flags: str) -> str:
    """Return `pattern`, changed to match JSON-escaped text."""

    def quoted(found: re.Match[str]) -> str:
        if found["group"] is not None:
            if found["group"] == "(?":
                raise ValueError("groups that begin with (? are not supported, except (?:...) and (?i:...)")
            return found["group"]
        if found["dot"] is not None:
            return _quoted_set(r"[\s\S]" if "s" in flags else r"[^\n]")
        return _quoted_set(found["set"] or f"[{found['class']}]")

    text = _ATOM.sub(quoted, pattern)
    return f"(?i:{text})" if "i" in flags else f"(?:{text})"


def _quoted_literal(text: str, flags: str) -> str:
    """Return an expression for the JSON-escaped form of `text`."""
    expression = "".join(f"(?-i:{re.escape(ESCAPES[c])})" if c in ESCAPES else re.escape(c) for c in text)
    return f"(?i:{expression})" if "i" in flags else f"(?:{expression})"


def _quoted_set(members: str) -> str:
    """Return an expression for one JSON-escaped character of a class.

    members: the class, such as `[a-z]`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # nested sets, whose meaning is to change
        matches: Callable[[str], object] = re.compile(members).fullmatch
    escaped = [f"(?-i:{re.escape(text)})" for char, text in ESCAPES.items() if matches(char)]
    return f"(?:{'|'.join([f'[{members}&&{_ORDINARY}]', *escaped])})"
