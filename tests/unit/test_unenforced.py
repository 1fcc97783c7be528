"""What is not enforced is reported in a bounded form that is safe in headers and logs."""

from __future__ import annotations

from typing import Any

import pytest

from server.chat.constrained.grammar import CallMode, call_grammar
from tests.grammars import tool

LOOK_AHEAD = {"not": {"pattern": "(?=x)"}}


def reported(schema: Any) -> tuple[str, ...]:
    return call_grammar([tool(schema)], CallMode.AUTO, parallel=True).unenforced.messages


def deep(names: list[str], leaf: Any) -> Any:
    for name in names:
        leaf = {"type": "object", "properties": {name: leaf}}
    return leaf


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {f"{'n' * 100}{i}": LOOK_AHEAD for i in range(600)}},
        {"type": "object", "properties": {str(i): deep(["m" * 5000] * 20, LOOK_AHEAD) for i in range(600)}},
        {"type": "object", "properties": {"x": {"allOf": [LOOK_AHEAD] * 600}}},
    ],
)
def test_many_messages_become_a_count_and_a_few_names(schema: Any) -> None:
    messages = reported(schema)
    assert messages[-1] == "and 592 more"
    assert len("; ".join(messages)) < 3000


@pytest.mark.parametrize("name", ["a\nb", "\x7f", "\x1b[31m", "\u2028", "\ud800", "\r\nX-Header: 1"])
def test_names_are_printable(name: str) -> None:
    (message,) = reported(deep([name], {"type": "array", "uniqueItems": True}))
    assert message.isprintable()


def test_ordinary_names_stay() -> None:
    (message,) = reported(deep(["é"], LOOK_AHEAD))
    assert message == "tools[0].function.parameters.properties.é.not: this negation cannot be enforced"
