"""Regular expressions, choices and grammars that a client sends, as Lark for llguidance."""

from __future__ import annotations

import json
import re

from llguidance.gbnf_to_lark import any_to_lark

from server.chat.types import TextForm
from server.errors import InvalidRequestError

MAX_GRAMMAR = 1 << 16  # characters

_ANCHORS = re.compile(r"\A\^|(?<!\\)((?:\\\\)*)\$\Z")
_SPECIAL = re.compile(r"\\.|/|\n", re.DOTALL)
_NESTED = re.compile(r"^\s*%llguidance\b.*$", re.MULTILINE)


def lark_of(form: TextForm) -> str:
    """The grammar of a `form` that is no JSON schema. Raises InvalidRequestError."""
    if form.kind == "regex":
        return f"start: /{_pattern(form.value)}/"
    if form.kind == "choice":
        return "start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in form.value)
    if len(form.value) > MAX_GRAMMAR:
        message = f"`{form.field}` is too long: grammars have at most {MAX_GRAMMAR:,} characters."
        raise InvalidRequestError(message, form.field)
    try:
        return _NESTED.sub("", any_to_lark(form.value))
    except Exception as error:  # whatever the converter meets in text that is no grammar
        raise InvalidRequestError(f"`{form.field}` is no grammar: {error}.", form.field) from None


def _pattern(regex: str) -> str:
    """As it stands between slashes. All of the text must match anyway, so anchors at its ends say nothing."""
    bare = _ANCHORS.sub(lambda anchor: anchor[1] or "", regex)
    return _SPECIAL.sub(lambda found: {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}.get(found[0], found[0]), bare)
