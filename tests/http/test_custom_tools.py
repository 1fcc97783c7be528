"""Custom tools with a format, on chat completions and on responses: random weights write nothing else."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.errors import error_of
from tests.serving import Server

PATCH = r"""start: "*** Begin" LF line+ "*** End" LF? // the end of the patch
line: ("+" | "-") /[a-z"\\]{1,5}/ LF -> line
%import common.LF
"""
CASES = [
    ("regex", r'^[ab"]{3}\n[\\c]{2}$', r'[ab"]{3}\n[\\c]{2}'),
    ("regex", "/[^a-z]{4}", "/[^a-z]{4}"),
    ("lark", PATCH, r'\*\*\* Begin\n([+-][a-z"\\]{1,5}\n)+\*\*\* End\n?'),
    ("lark", 'start: A ~ 2 [B] | "x"i "\\"" "y".."z"\nA: /./s\nB.2: "b"+', '(?s:.{2})b*|[xX]"[yz]'),
]
HOT = {"temperature": 1.5, "min_p": 0, "repetition_penalty": 1}


def post(server: Server, protocol: str, syntax: str, definition: str, seed: int = 0) -> httpx.Response:
    grammar = {"syntax": syntax, "definition": definition}
    fields: dict[str, Any] = {"seed": seed, "tool_choice": "required", "parallel_tool_calls": False, **HOT}
    if protocol == "chat":
        custom = {"name": "patch", "format": {"type": "grammar", "grammar": grammar}}
        fields["tools"] = [{"type": "custom", "custom": custom}]
        return server.chat(messages=[{"role": "user", "content": "hi"}], max_tokens=1000, **fields)
    fields["tools"] = [{"type": "custom", "name": "patch", "format": {"type": "grammar", **grammar}}]
    return httpx.post(
        f"{server.url}/v1/responses", json={"input": "hi", "max_output_tokens": 1000, **fields}, timeout=60
    )


@pytest.mark.parametrize("protocol", ["chat", "responses"])
@pytest.mark.parametrize(("syntax", "definition", "pattern"), CASES)
def test_the_input_matches_the_format(tiny: Server, protocol: str, syntax: str, definition: str, pattern: str) -> None:
    for seed in range(3):
        body = post(tiny, protocol, syntax, definition, seed).json()
        if protocol == "chat":
            (call,) = body["choices"][0]["message"]["tool_calls"]
            text = call["custom"]["input"]
        else:
            (call,) = body["output"]
            text = call["input"]
        assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("protocol", ["chat", "responses"])
@pytest.mark.parametrize(
    ("syntax", "definition", "field", "message"),
    [
        ("regex", "(", "definition", "cannot be enforced"),
        ("regex", "(?=a)b", "definition", "except (?:...) and (?i:...)"),
        ("lark", "start: start", "definition", "the rule start is recursive"),
        ("lark", "start: x", "definition", "there is no rule x"),
        ("lark", 'start: "a"\n%ignore " "', "definition", "is not supported"),
        ("lark", "start: (", "definition", "a bracket is not closed"),
        ("lark", "start: *", "definition", "has nothing to repeat"),
        ("lark", 'start: "a")', "definition", "unexpected ')'"),
        ("lark", "%import common.X", "definition", "common.X cannot be imported"),
        ("lark", 'start: "a" ~ 9999999', "definition", "enforce"),
        ("gbnf", "a", "syntax", "Input should be"),
        ("lark", "", "definition", ""),
    ],
)
def test_a_format_that_cannot_be_enforced_is_refused(
    tiny: Server, protocol: str, syntax: str, definition: str, field: str, message: str
) -> None:
    error = error_of(post(tiny, protocol, syntax, definition), 400)
    path = "tools[0].custom.format.grammar" if protocol == "chat" else "tools[0].format"
    assert error["param"] == f"{path}.{field}"
    assert message in error["message"]
