"""Converts a client's regular expression, choice or grammar to llguidance's dialect of Lark."""

from __future__ import annotations

import json
import re

from llguidance.gbnf_to_lark import any_to_lark

from server.chat.types import TextForm
from server.errors import InvalidRequestError

MAX_GRAMMAR = 1 << 16  # characters

_ANCHORS = re.compile(r"\A\^|(?<!\\)((?:\\\\)*)\$\Z")
_SPECIAL = re.compile(r"\\.|/|\n", re.DOTALL)
_OPTION_LINE = re.compile(r"^\s*%llguidance\b.*$", re.MULTILINE)


def lark_of(form: TextForm) -> str:
    """Return the grammar of a regex, choice or grammar. Raises InvalidRequestError if it is not a valid grammar."""
    if form.kind == "regex":
        return f"start: /{_pattern(form.value)}/"
    if form.kind == "choice":
        # In capitals: one terminal costs less than an alternative for each choice.
        return "start: CHOICE\nCHOICE: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in form.value)
    if len(form.value) > MAX_GRAMMAR:
        message = f"`{form.field}` is too long: grammars have at most {MAX_GRAMMAR:,} characters."
        raise InvalidRequestError(message, form.field)
    try:
        return _OPTION_LINE.sub("", any_to_lark(form.value))
    except Exception as error:  # the converter raises many types for invalid grammars
        raise InvalidRequestError(f"`{form.field}` is not a valid grammar: {error}.", form.field) from None


def _pattern(regex: str) -> str:
    """Return `regex` as written between slashes in Lark.

    Anchors at its two ends are removed: the whole text must match in any case.
    """
    bare = _ANCHORS.sub(lambda anchor: anchor[1] or "", regex)
    return _SPECIAL.sub(lambda found: {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0]), bare)
