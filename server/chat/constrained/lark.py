"""Converts regexes, choices and grammars to llguidance's dialect of Lark."""

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
    """Convert a regex, choice or grammar to Lark.

    Raises InvalidRequestError if a grammar is too long or invalid.
    """
    if form.kind == "regex":
        return f"start: /{between_slashes(without_anchors(form.value))}/"
    if form.kind == "choice":
        # CHOICE is in capitals, so it is a terminal. A single terminal costs less than a rule with many alternatives.
        return "start: CHOICE\nCHOICE: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in form.value)
    if len(form.value) > MAX_GRAMMAR:
        message = f"`{form.field}` is too long: a grammar may have at most {MAX_GRAMMAR:,} characters."
        raise InvalidRequestError(message, form.field)
    try:
        return _OPTION_LINE.sub("", any_to_lark(form.value))
    except Exception as error:  # for invalid grammars, the converter raises many types of errors
        raise InvalidRequestError(f"`{form.field}` is not a valid grammar: {error}.", form.field) from None


def without_anchors(regex: str) -> str:
    """Return `regex` without `^` at its start and without `$` at its end.

    The whole text must match anyway.
    """
    return _ANCHORS.sub(lambda anchor: anchor[1] or "", regex)


def between_slashes(regex: str) -> str:
    """Escape `regex` for use between slashes in Lark."""
    return _SPECIAL.sub(lambda found: {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0]), regex)
