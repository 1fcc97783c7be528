"""Parses and renders tool calls such as `name(city="Paris", days=3)`.

This is the style of LFM2. Calls in JSON style are parsed, too.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.chat.tool_calls.literals import LiteralReader, object_text
from server.chat.tool_calls.nested_quotes import MAX_CHARACTERS, QuoteChoices, only_reading

_JOINING = "-.:/"
_PUNCTUATION = string.punctuation.replace("_", "")
# Not \w, which excludes the combining marks of many scripts.
_WORD = rf"[^\s\x00-\x1f\x7f{re.escape(_PUNCTUATION)}]"
_ARGUMENT = rf"[$@]?{_WORD}++(?>[{re.escape(_JOINING)}]++{_WORD}++)*+"

FUNCTION_NAME = re.compile(rf"(?>{_WORD}|[{re.escape(_JOINING)}])++")
ARGUMENT_NAME = re.compile(_ARGUMENT)
_KEYWORD = re.compile(rf"({_ARGUMENT})\s*=(?!=)")

_PYTHON_CONSTANTS = {"true": "True", "false": "False", "null": "None"}


@dataclass(frozen=True, slots=True)
class CallExpression:
    """A parsed call that has not been checked against a tool.

    Arguments are JSON text.
    """

    name: str
    positional: tuple[str, ...] = ()
    keywords: Mapping[str, str] = field(default_factory=dict)


def parse_call(source: str) -> CallExpression:
    """Parse a call in Python or JSON style.

    Raises ValueError if `source` is not exactly one call.
    """
    reader = LiteralReader(source)
    call = _call(reader)
    reader.expect_end()
    return call


def parse_nested_quotes(source: str) -> list[CallExpression] | None:
    """Parse calls, perhaps in a list, whose strings contain unescaped quotes.

    Returns None if `source` is too long, or its syntax is wrong or ambiguous.
    """

    def read(choices: QuoteChoices) -> list[CallExpression]:
        reader = LiteralReader(source, choices.end_of_string)
        reader.accept("[")
        calls = [_call(reader)]
        while reader.accept(","):
            calls.append(_call(reader))
        reader.accept("]")
        reader.expect_end()
        return calls

    return only_reading(read) if len(source) <= MAX_CHARACTERS else None


def render_call(name: str, arguments_json: str) -> str:
    """Render a call in Python style, as models are trained to write it.

    Raises ValueError if `arguments_json` is not a JSON object or is nested too deeply.
    """
    arguments = _whole_object(arguments_json)
    # The reader also accepts Python's literals, so check that the text is JSON. Numbers stay text, because Python
    # refuses to convert integers with thousands of digits.
    json.loads(arguments_json, parse_int=str, parse_float=str)
    plain = {argument: value for argument, value in arguments.items() if ARGUMENT_NAME.fullmatch(argument)}
    odd = {argument: value for argument, value in arguments.items() if argument not in plain}
    parts = [f"{argument}={_PYTHON_CONSTANTS.get(value, value)}" for argument, value in plain.items()]
    if odd:  # names that are not possible in `name=value`
        parts.append(f"**{object_text(odd)}")
    return f"{name}({', '.join(parts)})"


def _call(reader: LiteralReader) -> CallExpression:
    """Consume a call in Python or JSON style."""
    return _json_call(reader.members()) if reader.is_next("{") else _pythonic_call(reader)


def _pythonic_call(reader: LiteralReader) -> CallExpression:
    """Consume `name(value, keyword=value, **{"name": value})`."""
    name = reader.match(FUNCTION_NAME)
    if name is None:
        raise reader.error("expected a function's name")
    reader.expect("(")
    positional: list[str] = []
    keywords: dict[str, str] = {}
    while not reader.accept(")"):
        if reader.accept("**"):
            _add(keywords, reader.members())
        elif keyword := reader.match(_KEYWORD):
            _add(keywords, {keyword[1]: reader.value()})
        elif keywords:
            raise reader.error("expected a keyword argument")
        else:
            positional.append(reader.value())
        if not reader.accept(","):
            reader.expect(")")
            break
    return CallExpression(name.group(), tuple(positional), keywords)


def _add(keywords: dict[str, str], more: Mapping[str, str]) -> None:
    """Add arguments to `keywords`. Raises ValueError for a repeated argument."""
    if not keywords.keys().isdisjoint(more):
        raise ValueError("an argument occurs twice")
    keywords.update(more)


def _json_call(call: Mapping[str, str]) -> CallExpression:
    """Return the call in an object such as `{"name": ..., "arguments": {...}}`.

    Also accepts "parameters" and OpenAI's `{"type": "function", "function": {...}}`.
    """
    if call.get("type", '"function"') != '"function"':
        raise ValueError('the type of a call must be "function"')
    if "function" in call:
        _require_names(call, {"function"})
        call = _whole_object(call["function"])
    arguments = "parameters" if "parameters" in call else "arguments"
    _require_names(call, {"name", arguments})
    return CallExpression(_string(call["name"]), keywords=_object_or_its_text(call[arguments]))


def _require_names(call: Mapping[str, str], names: set[str]) -> None:
    if call.keys() - {"type", "id"} != names:
        raise ValueError(f"a call must have {' and '.join(sorted(names))}; got {', '.join(call)}")


def _object_or_its_text(value: str) -> dict[str, str]:
    """Parse an object, or a string that contains the text of an object."""
    return _whole_object(_string(value) if value.startswith('"') else value)


def _whole_object(text: str) -> dict[str, str]:
    reader = LiteralReader(text)
    members = reader.members()
    reader.expect_end()
    return members


def _string(value: str) -> str:
    if not value.startswith('"'):
        raise ValueError(f"{value} is not a string")
    return str(json.loads(value))
