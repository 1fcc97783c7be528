"""One tool call as a model writes it, `name(city="Paris", days=3)`: reading and rendering it.

JSON-style calls are read too. Knows neither which tools there are nor the markers around calls.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.chat.tool_calls.literals import LiteralReader, object_text

_JOINING = "-.:/"
_PUNCTUATION = string.punctuation.replace("_", "")
# Not \w, which lacks the combining marks of many scripts.
_WORD = rf"[^\s\x00-\x1f\x7f{re.escape(_PUNCTUATION)}]"
_ARGUMENT = rf"[$@]?{_WORD}++(?:[{re.escape(_JOINING)}]++{_WORD}++)*+"

FUNCTION_NAME = re.compile(rf"(?:{_WORD}|[{re.escape(_JOINING)}])++")
ARGUMENT_NAME = re.compile(_ARGUMENT)
_KEYWORD = re.compile(rf"({_ARGUMENT})\s*=(?!=)")

_PYTHON_CONSTANTS = {"true": "True", "false": "False", "null": "None"}


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as it was written; all values are JSON text."""

    name: str
    positional: tuple[str, ...] = ()
    keywords: Mapping[str, str] = field(default_factory=dict)


def read_call(source: str) -> WrittenCall:
    """The call that is all of `source`, pythonic or JSON-style. Raises ValueError where it is not one."""
    return _json_call(source) if source.startswith("{") else _pythonic_call(source)


def render_call(name: str, arguments_json: str) -> str:
    """The pythonic form of a call, as models are trained to write it; numbers keep their spelling.

    Arguments that cannot be named in it come last, as `**{"odd name": 1}`. Raises ValueError where `arguments_json`
    is not a JSON object, or one that no call can hold (NaN, infinities, nested too deep).
    """
    arguments = _whole_object(arguments_json)
    # Python's literals are not JSON; its numbers have been read, and one of many digits is too long for an int.
    json.loads(arguments_json, parse_int=str, parse_float=str)
    plain = {argument: value for argument, value in arguments.items() if ARGUMENT_NAME.fullmatch(argument)}
    odd = {argument: value for argument, value in arguments.items() if argument not in plain}
    parts = [f"{argument}={_PYTHON_CONSTANTS.get(value, value)}" for argument, value in plain.items()]
    if odd:
        parts.append(f"**{object_text(odd)}")
    return f"{name}({', '.join(parts)})"


def _pythonic_call(source: str) -> WrittenCall:
    reader = LiteralReader(source)
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
            raise reader.error("expected a keyword")
        else:
            positional.append(reader.value())
        if not reader.accept(","):
            reader.expect(")")
            break
    reader.expect_end()
    return WrittenCall(name.group(), tuple(positional), keywords)


def _add(keywords: dict[str, str], more: Mapping[str, str]) -> None:
    if not keywords.keys().isdisjoint(more):
        raise ValueError("an argument is given twice")
    keywords.update(more)


def _json_call(source: str) -> WrittenCall:
    """`{"name": .., "arguments": {..}}`, with "parameters" as well, or with this as the "function" of an object."""
    call = _whole_object(source)
    if call.get("type", '"function"') != '"function"':
        raise ValueError('the type of a call is "function"')
    if "function" in call:
        _require_names(call, {"function"})
        call = _whole_object(call["function"])
    arguments = "parameters" if "parameters" in call else "arguments"
    _require_names(call, {"name", arguments})
    return WrittenCall(_string(call["name"]), keywords=_object_or_its_text(call[arguments]))


def _require_names(call: Mapping[str, str], names: set[str]) -> None:
    if call.keys() - {"type", "id"} != names:
        raise ValueError(f"a call has {' and '.join(sorted(names))}, not {', '.join(call)}")


def _object_or_its_text(value: str) -> dict[str, str]:
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
