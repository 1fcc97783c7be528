"""Reads the arguments of calls in the history of a chat.

A token limit may have cut them off.
"""

from __future__ import annotations

import json
import re

_TOKEN = re.compile(
    r"\s*(?:(?P<open>[{\[])|(?P<close>[}\]])|(?P<separator>[:,])"
    r'|(?P<string>"(?>[^"\\]|\\.)*+")|(?P<plain>[^\s{}\[\]:,"]+(?=[\s{}\[\]:,"]|\Z)))',
    re.DOTALL,
)
_CUT_STRING = re.compile(r'\s*("(?>[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z')
_CUT_NUMBER = r"-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?)?"
_CUT_MEMBER = re.compile(  # text that may follow the last complete value: a comma, a key, the beginning of a value
    r'\s*,?\s*(?:"(?>[^"\\]|\\.)*+(?:\\|"\s*(?::\s*)?)?)?'
    rf"(?:{_CUT_NUMBER}|t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?)\Z",
    re.DOTALL,
)
_CLOSING = {"{": "}", "[": "]"}


def arguments_object(text: str) -> str:
    """Return a call's arguments as the text of a JSON object, closed if cut off.

    Examples: `null` -> `{}`, `{"a": "b` -> `{"a": "b"}`.
    Raises ValueError if `text` is not the beginning of an object.
    """
    if text.strip() in ("", "null"):
        return "{}"
    if not _is_json(text):
        text = _closed(text)
    if not _is_json(text) or not text.lstrip().startswith("{"):
        raise ValueError("the text is not a JSON object")
    return text


def _closed(text: str) -> str:
    """Return a cut-off object, closed: `{"a": [1, tr` -> `{"a": [1]}`.

    Raises ValueError if `text` cannot be the beginning of an object.
    """
    # Does not check everything: the caller checks that the result is JSON.
    closing: list[str] = []
    end, brackets = 0, ""  # the end of the longest prefix that needs only brackets to be JSON, and these brackets
    at = 0
    expects_key = False
    while token := _TOKEN.match(text, at):
        if token["open"]:
            closing.append(_CLOSING[token["open"]])
        elif token["close"] and (not closing or closing.pop() != token["close"]):
            raise ValueError("the brackets do not match")
        elif token["plain"] and token.end() == len(text) and not _is_json(token["plain"]):
            break
        at = token.end()
        if not (token["separator"] or (token["string"] and expects_key)):
            end, brackets = at, "".join(reversed(closing))
        expects_key = closing[-1:] == ["}"] and (token["open"] or token["separator"]) in ("{", ",")
    if closing and not expects_key and (cut := _CUT_STRING.match(text, at)):
        return text[: cut.end(1)] + '"' + "".join(reversed(closing))
    if not closing or not _CUT_MEMBER.match(text, end):
        raise ValueError("the text is not the beginning of an object")
    return text[:end] + brackets


def _is_json(text: str) -> bool:
    try:
        # Numbers stay text, because Python refuses to convert integers with thousands of digits.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
