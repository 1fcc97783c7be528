"""Calls rendered in Python style, and parsed back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.tool_calls.call_syntax import render_call
from server.chat.tool_calls.free_parser import FreeCallParser, FreePiece, ParsedCall, ToolSignature

START, END = "<|tool_call_start|>", "<|tool_call_end|>"


def parse(text: str, tool: str) -> list[FreePiece]:
    parser = FreeCallParser([ToolSignature(tool, ())])
    return [*parser.feed(text), *parser.finish()]


STRINGS = st.text().filter(lambda text: "<|tool_call_" not in text)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(STRINGS, v, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_-]{0,8}[a-z]", fullmatch=True) | STRINGS, VALUES, max_size=5)
TOOL_NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)


@given(TOOL_NAMES, OBJECTS)
def test_python_literals_come_back_as_json(name: str, arguments: dict[str, Any]) -> None:
    text = f"{START}[{name}(**{arguments!r})]{END}"
    (read,) = parse(text, name)
    assert isinstance(read, ParsedCall)
    assert (read.name, json.loads(read.arguments)) == (name, arguments)


@given(TOOL_NAMES, OBJECTS, st.booleans(), st.sampled_from([None, 2]))
def test_a_rendered_call_is_parsed_back(
    name: str, arguments: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    rendered = render_call(name, json.dumps(arguments, ensure_ascii=ascii_only, indent=indent))
    (read,) = parse(f"{START}[{rendered}]{END}", name)
    assert isinstance(read, ParsedCall)
    assert (read.name, json.loads(read.arguments)) == (name, arguments)


RENDERED = [
    ("{}", "f()"),
    ('{"city": "Zürich", "n": 1}', 'f(city="Zürich", n=1)'),
    ('{"a": true, "b": false, "c": null}', "f(a=True, b=False, c=None)"),
    ('{"a": [true, null], "b": {"c": false}}', 'f(a=[true, null], b={"c": false})'),
    ('{"a": 1.50, "b": 1E5, "c": 12345678901234567890}', "f(a=1.50, b=1E5, c=12345678901234567890)"),
    (f'{{"a": {"9" * 5000}}}', f"f(a={'9' * 5000})"),
    (r'{"a": "\u00e9\ud83d\ude00\ud800\n\""}', 'f(a="é😀\ufffd\\n\\"")'),
    ('{"odd name": true, "from": 1, "max-size": 2}', 'f(from=1, max-size=2, **{"odd name": true})'),
    ('{"a[0]": 1, "": 2, "x=y": 3, "a,b": 4, "f()": 5}', 'f(**{"a[0]": 1, "": 2, "x=y": 3, "a,b": 4, "f()": 5})'),
    ('{"a": 1, "a": 2}', "f(a=2)"),
]


@pytest.mark.parametrize(("arguments", "text"), RENDERED)
def test_calls_are_rendered_in_the_style_models_are_trained_on(arguments: str, text: str) -> None:
    assert render_call("f", arguments) == text


NO_OBJECTS = ["", "x", "[1]", '"x"', "null", "{", "{}{}", "{'a': 1}", '{"a": True}', '{"a": (1, 2)}', '{"a": 1,}',
              '{1: 2}',
              '{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": 0x1F}', '{"a": "b" "c"}',
              '{"a": ' + "[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("arguments", NO_OBJECTS)
def test_arguments_that_are_not_a_json_object_are_an_error(arguments: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        render_call("f", arguments)
