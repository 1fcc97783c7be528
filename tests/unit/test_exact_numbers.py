"""Numbers beyond 2**53 are enforced exactly, or are an error."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.chat.constrained.grammar import CallMode, Grammar, call_grammar
from server.chat.json_schema.exact_numbers import integer_pattern
from server.errors import InvalidRequestError
from tests.grammars import accepts, block, json_grammar, required, tool

WIDE = st.integers(-(2**63), 2**64) | st.integers(2**53, 2**53 + 1000) | st.integers(-1000, 1000)
SNOWFLAKE = 123456789012345678


@settings(max_examples=300, deadline=None)
@given(WIDE, WIDE, st.lists(WIDE, max_size=5))
def test_a_pattern_matches_exactly_the_integers_between_its_bounds(low: int, high: int, others: list[int]) -> None:
    low, high = sorted((low, high))
    pattern = re.compile(integer_pattern(low, high))
    for value in (low, low - 1, low + 1, high, high - 1, high + 1, 0, *others):
        assert bool(pattern.fullmatch(str(value))) == (low <= value <= high)
    for text in ("-0", "00", f"0{abs(high)}", f"{high}.0"):
        assert not pattern.fullmatch(text)


def check(schema: Any, value: int, *, valid: bool) -> None:
    """Check that `value` is admitted if it is `valid`, as an argument, nested and as an answer."""
    nested = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    grammars: list[tuple[Any, str]] = [
        (lambda: required({"type": "object", "properties": {"x": schema}, "required": ["x"]}), block(f"f(x={value})")),
        (lambda: json_grammar(schema), str(value)),
        (lambda: json_grammar(nested), json.dumps({"a": value})),
        (lambda: json_grammar({"type": "array", "items": schema}), json.dumps([value])),
    ]
    for make, text in grammars:
        with suppress(InvalidRequestError):
            assert accepts(make(), text) == valid


@settings(max_examples=60, deadline=None)
@given(WIDE, st.integers(-3, 3))
def test_constants_are_exact(constant: int, offset: int) -> None:
    for schema in ({"const": constant}, {"type": "integer", "enum": [constant, constant + 7]}):
        check(schema, constant + offset, valid=offset == 0)


@settings(max_examples=60, deadline=None)
@given(WIDE, st.integers(0, 100), st.integers(-2, 2))
def test_bounds_are_exact(low: int, span: int, offset: int) -> None:
    schema = {"type": "integer", "minimum": low, "maximum": low + span}
    check(schema, low + offset, valid=0 <= offset <= span)
    check(schema, low + span + offset, valid=-span <= offset <= 0)
    exclusive = {"type": "integer", "exclusiveMinimum": low - 1, "exclusiveMaximum": low + span + 1}
    check(exclusive, low + offset, valid=0 <= offset <= span)


@settings(max_examples=40, deadline=None)
@given(WIDE)
def test_no_excluded_integer_is_admitted(constant: int) -> None:
    schemas: list[Any] = [
        {"type": "integer", "not": {"const": constant}},
        {"type": "integer", "not": {"minimum": constant, "maximum": constant}},
        {"oneOf": [{"type": "integer"}, {"const": constant}]},
    ]
    for schema in schemas:
        with suppress(InvalidRequestError):
            assert not accepts(json_grammar(schema), str(constant))


@pytest.mark.parametrize("value", [SNOWFLAKE, 9007199254740993, -(2**63), 2**64 - 1, 10**25 + 1])
def test_an_argument_beyond_a_double_is_enforced(value: int) -> None:
    for schema in (
        {"type": "integer", "enum": [value]},
        {"const": value},
        {"type": "integer", "minimum": value, "maximum": value},
    ):
        grammar = required({"type": "object", "properties": {"id": schema}, "required": ["id"]})
        assert accepts(grammar, block(f"f(id={value})"))
        assert not accepts(grammar, block(f"f(id={value - 1})"))
        assert not accepts(grammar, block(f"f(id={int(float(value)) + 2})"))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"const": SNOWFLAKE}},
        {"type": "integer", "minimum": SNOWFLAKE, "multipleOf": 3},
        {"anyOf": [{"const": SNOWFLAKE}, {"type": "string"}]},
        {"type": "number", "minimum": SNOWFLAKE},
    ],
)
def test_what_cannot_be_exact_is_an_error_or_reported(schema: Any) -> None:
    parameters = {"type": "object", "properties": {"x": schema}}
    with pytest.raises(InvalidRequestError, match="numbers beyond"):
        required(parameters)
    grammar: Grammar = call_grammar([tool(parameters)], CallMode.AUTO, parallel=True)
    (message,) = grammar.unenforced.messages
    assert "properties.x: numbers beyond" in message


def test_mixed_constants_keep_their_types() -> None:
    grammar = json_grammar({"enum": ["a", SNOWFLAKE, None, True], "type": ["integer", "null"]})
    assert accepts(grammar, str(SNOWFLAKE))
    assert accepts(grammar, "null")
    assert not accepts(grammar, '"a"')
    assert not accepts(grammar, "true")
