"""Calls in answers with a grammar, passed on while they are generated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.tool_calls.call_syntax import render_call
from server.chat.tool_calls.constrained_parser import (
    ArgumentsPiece,
    CallOpened,
    ConstrainedCallParser,
    ConstrainedPiece,
    TextOrCallsParser,
)

START, END = "<|tool_call_start|>", "<|tool_call_end|>"


def parse(
    text: str, sizes: list[int], parser: ConstrainedCallParser | TextOrCallsParser | None = None
) -> tuple[str, list[tuple[str, str]], list[ConstrainedPiece]]:
    """Parse `text` cut into pieces of `sizes`; return its content, its calls and all pieces returned."""
    parser, pieces = parser or ConstrainedCallParser(), []
    while text:
        size = sizes.pop() if sizes else len(text)
        pieces += parser.feed(text[:size])
        text = text[size:]
    pieces += parser.finish()
    content, calls = "", []
    for piece in pieces:
        if isinstance(piece, CallOpened):
            calls.append((piece.name, ""))
        elif isinstance(piece, ArgumentsPiece):
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.text)
        else:
            content += piece
    return content, calls, pieces


@pytest.mark.parametrize(
    ("block", "calls"),
    [
        ("[f()]", [("f", "{}")]),
        ('[f(a=1, b="x")]', [("f", '{"a": 1, "b": "x"}')]),
        ("[f(a=True,b=None)]", [("f", '{"a": true, "b": null}')]),
        ('[f(), g.h-i(c=[1, {"d": false}])]', [("f", "{}"), ("g.h-i", '{"c": [1, {"d": false}]}')]),
        ('[f(**{"odd name": 1})]', [("f", '{"odd name": 1}')]),
        ('[f(a={"x": []}, **{"odd": ")"})]', [("f", '{"a": {"x": []}, "odd": ")"}')]),
        ("[f(a=1, **{})]", [("f", '{"a": 1}')]),
        (f'[f(a="{END}{START}", **{{"{END}": 1}})]', [("f", f'{{"a": "{END}{START}", "{END}": 1}}')]),
        ("[f(a=1, **{ \n})]", [("f", '{"a": 1}')]),
        ('[f(**\n\t{"odd" : 1}\n)]', [("f", '{"odd" : 1}')]),
        ('[f(a=1 , ** { "odd": "}" } )]', [("f", '{"a": 1, "odd": "}" }')]),
        ('[f( a = "\\"),(" , b = -1.50e3 ) , g()]', [("f", '{"a": "\\"),(", "b": -1.50e3}'), ("g", "{}")]),
    ],
)  # fmt: skip
def test_calls_become_json_arguments(block: str, calls: list[tuple[str, str]]) -> None:
    text = f"before {START}{block}{END} after"
    assert parse(text, [])[:2] == ("before  after", calls)
    assert parse(text, [1] * len(text))[:2] == ("before  after", calls)


@pytest.mark.parametrize("size", [1, 100])
def test_removed_text_leaves_no_marker_behind(size: int) -> None:
    text = f"a<|tool_call_{END}start|>b<|tool_call_{START}[f()]{END}end|>c"
    assert parse(text, [size] * len(text))[:2] == ("ab<|tool_call_c", [("f", "{}")])


names = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: name[-1] not in ".-")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda t: "<|" not in t)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True) | st.just("odd name"), values, max_size=4)


@given(st.lists(st.tuples(names, arguments), min_size=1, max_size=3), st.lists(st.integers(1, 9)))
def test_rendered_calls_are_parsed_back_from_any_pieces(
    calls: list[tuple[str, dict[str, Any]]], sizes: list[int]
) -> None:
    written = ", ".join(render_call(name, json.dumps(given, ensure_ascii=False)) for name, given in calls)
    _, found, _ = parse(f"{START}[{written}]{END}", sizes)
    assert [(name, json.loads(given)) for name, given in found] == calls


def test_a_long_argument_is_passed_on_while_it_is_generated() -> None:
    parser = ConstrainedCallParser()
    parser.feed(f"{START}[write(text=")
    pieces = [parser.feed("word ") for _ in parser.feed('"') for _ in range(400)]
    assert all(piece == [ArgumentsPiece("word ")] for piece in pieces)


def test_an_incomplete_call_has_incomplete_json_arguments() -> None:
    _, calls, _ = parse(f'{START}[f(a=1, b="ha', [])
    assert calls == [("f", '{"a": 1, "b": "ha')]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f'{{"a": "{START}[f()]{END}"}}', f'{{"a": "{START}[f()]{END}"}}', []),
        (END, END, []),
        ("<|tool", "<|tool", []),
        (f"{START}[f()]{END}", "", [("f", "{}")]),
    ],
)
def test_an_answer_of_text_or_calls_is_calls_only_if_it_starts_with_the_marker(
    text: str, content: str, calls: list[tuple[str, str]], size: int
) -> None:
    assert parse(text, [size] * len(text), TextOrCallsParser(may_call=True))[:2] == (content, calls)
    assert parse(text, [size] * len(text), TextOrCallsParser(may_call=False))[:2] == (text, [])
