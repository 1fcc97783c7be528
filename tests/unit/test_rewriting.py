"""Rewritten keywords admit only valid values, and all of them if the rewriting is exact."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from server.errors import InvalidRequestError
from tests.grammars import INTEGER, STRING, TOKENIZER, assert_enforced, compiled, json_grammar, object_of

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 6) | st.sampled_from([0.5, 2.0, "", "a", "b", "ab", "1", "é"])
WRITTEN = SCALARS.map(lambda value: 2 if value == 2 else value)
"""Scalars as the grammar writes them: the constant 2.0 of a schema is written as 2."""
VALUES = WRITTEN | st.lists(WRITTEN, max_size=3) | st.dictionaries(NAMES, WRITTEN | st.lists(WRITTEN, max_size=2))
COUNTS = st.integers(0, 3)


def one_keyword(keyword: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return values.map(lambda value: {keyword: value})


TYPES = ["null", "boolean", "number", "string", "array"]
LEAVES = st.one_of(
    one_keyword("type", st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, unique=True)),
    one_keyword("const", SCALARS | st.lists(SCALARS, max_size=2)),
    one_keyword("enum", st.lists(SCALARS, min_size=1, max_size=4)),
    one_keyword("pattern", st.sampled_from(["^a", "b$", "^[a-z]+$", "1", "^(a|é)?b*$"])),
    *(
        one_keyword(keyword, st.sampled_from([-1, 0, 0.5, 2, 5]))
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    ),
    *(one_keyword(keyword, COUNTS) for keyword in ("minLength", "maxLength", "minItems", "maxItems")),
)


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        *(one_keyword(keyword, lists) for keyword in ("allOf", "anyOf", "oneOf", "prefixItems")),
        one_keyword("not", inner),
        st.builds(lambda one, then, other: {"if": one, "then": then, "else": other}, inner, inner, inner),
        st.builds(lambda one, other: {**one, **other}, inner, inner),
    )


def with_objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    closed = st.sampled_from([{}, {}, {"additionalProperties": False}, {"type": "object"}])
    properties = st.dictionaries(NAMES, inner, max_size=2)
    return st.one_of(
        combined(inner),
        one_keyword("items", inner),
        st.builds(
            lambda named, needed, rest: {"properties": named, "required": needed, **rest},
            properties,
            st.lists(NAMES, unique=True, max_size=2),
            closed,
        ),
        one_keyword("additionalProperties", inner),
        one_keyword("patternProperties", st.dictionaries(st.sampled_from(["^a$", "b|c"]), inner, max_size=1)),
        one_keyword("dependentRequired", st.dictionaries(NAMES, st.lists(NAMES, unique=True), max_size=1)),
        st.builds(
            lambda named, count: {"properties": named, "additionalProperties": False, **count},
            properties,
            st.sampled_from([{"minProperties": 1}, {"maxProperties": 1}, {"minProperties": 2}]),
        ),
        one_keyword("propertyNames", st.sampled_from([{"pattern": "^a"}, {"enum": ["a", "c"]}, {"const": "b"}])),
    )


ROOTS = ("not", "oneOf", "if", "anyOf")


def rewritten(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas with a rewritten keyword at their root."""
    return combined(schemas).filter(lambda schema: not schema.keys().isdisjoint(ROOTS))


def admitted(schema: Any, values: list[Any]) -> list[bool]:
    """Return whether the grammar of `schema` admits each of `values`; discard the example if there is no grammar."""
    try:
        matcher = compiled(json_grammar(schema)).matcher
    except InvalidRequestError:
        assume(False)
    verdicts = []
    for value in values:
        tokens = TOKENIZER.encode_literally(json.dumps(value, ensure_ascii=False))
        copy = matcher.deep_copy()
        verdicts.append(copy.try_consume_tokens(tokens) == len(tokens) and copy.is_accepting())
    return verdicts


LIMITS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@pytest.mark.parametrize(
    ("bounds", "excluded", "included"),
    [
        ({"exclusiveMinimum": 10, "exclusiveMaximum": 10.5}, [10, 10.5], [10.25]),
        ({"exclusiveMinimum": 10, "maximum": 10.5}, [10, 11], [10.25, 10.5]),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, [0, -0.25], [0.25, 0.001]),
        ({"minimum": -0.5, "exclusiveMaximum": 0}, [0, 0.25], [-0.25, -0.001]),
        ({"minimum": -1.5, "exclusiveMaximum": -1}, [-1, -2], [-1.5, -1.25]),
        ({"minimum": 10, "exclusiveMinimum": 9.5, "exclusiveMaximum": 10.5}, [9.75], [10, 10.25]),
        ({"minimum": 9.5, "exclusiveMinimum": 10, "maximum": 10.5}, [9.75, 10], [10.25]),
        ({"minimum": 10, "exclusiveMinimum": True, "maximum": 10.5}, [10], [10.25]),
        ({"minimum": 10, "exclusiveMinimum": False, "maximum": 10.5}, [9.75], [10, 10.25]),
        ({"allOf": [{"exclusiveMinimum": 10}, {"maximum": 10.5}]}, [10], [10.25]),
        ({"not": {"anyOf": [{"minimum": 0.5}, {"maximum": 0}]}}, [0, 0.5], [0.25]),
        ({"minimum": 0, "exclusiveMaximum": 1}, [1], [0, 0.9, 0.99]),
        ({"exclusiveMinimum": -1, "exclusiveMaximum": 100}, [-1, 100], [-0.9, 99.9, 99]),
        ({"not": {"minimum": 5}}, [5], [4.9, -6]),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0, 1], [0.9, 0.001]),
        ({"type": "integer", "exclusiveMinimum": -1, "exclusiveMaximum": 1.5}, [-1, 2], [0, 1]),
        ({"type": "integer", "exclusiveMinimum": 2**52, "maximum": 2**52 + 2}, [2**52], [2**52 + 1]),
    ],
)
def test_exclusive_bounds_exclude_their_value(bounds: dict[str, Any], excluded: list[Any], included: list[Any]) -> None:
    verdicts = admitted({"type": "number", **bounds}, excluded + included)
    assert verdicts == [False] * len(excluded) + [True] * len(included)


@LIMITS
@given(rewritten(st.recursive(LEAVES, with_objects, max_leaves=6)), st.lists(VALUES, min_size=1, max_size=30))
def test_no_invalid_value_is_admitted(schema: Any, values: list[Any]) -> None:
    for value, verdict in zip(values, admitted(schema, values), strict=True):
        assert not verdict or jsonschema.Draft202012Validator(schema).is_valid(value), value


@LIMITS
@given(rewritten(st.recursive(LEAVES, combined, max_leaves=5)), st.lists(VALUES, min_size=1, max_size=30))
def test_every_valid_value_without_objects_is_admitted(schema: Any, values: list[Any]) -> None:
    for value, verdict in zip(values, admitted(schema, values), strict=True):
        assert verdict == jsonschema.Draft202012Validator(schema).is_valid(value), value


CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "not a pattern": ({"type": "string", "not": {"pattern": "^[.,* -]+$"}}, ["a", "", ".a"], [".", "- -", 1]),
    "not some strings": (
        {"type": "string", "not": {"enum": ["CAN", "MEX"]}},
        ["USA", "CA", "CANADA", ""],
        ["CAN", "MEX", 1],
    ),
    "not some numbers": ({"type": "integer", "not": {"enum": [1, 3.0]}}, [0, 2, 4, -1], [1, 3]),
    "not an array": ({"not": {"const": [1, "a"]}}, [[1], [1, "b"], [2, "a"], [1, "a", 1], {}], [[1, "a"]]),
    "if a string": (
        {
            "type": "object",
            "properties": {"kind": STRING, "x": INTEGER},
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "a"}}},
            "then": {"required": ["x"]},
        },
        [{"kind": "a", "x": 1}, {"kind": "b"}, {"kind": "ab", "x": 1}],
        [{"kind": "a"}, {}],
    ),
    "oneOf of bounds": ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, [0, 5, 0.5], [2, 1, "x", None]),
    "oneOf of a string and a pattern": ({"oneOf": [STRING, {"type": "string", "pattern": "^a"}]}, ["b", ""], ["a"]),
    "oneOf of patterns that overlap": (
        {"type": "string", "oneOf": [{"pattern": "^[0-9a-f]{2}$"}, {"pattern": "^[0-9A-F]{2}$"}]},
        ["0a", "A0"],
        ["00", "aA"],
    ),
    "oneOf of closed objects": (
        {
            "type": "object",
            "oneOf": [
                {**object_of("a", "k"), "additionalProperties": False},
                {**object_of("b", "k"), "additionalProperties": False},
            ],
        },
        [{"a": 1}, {"b": 1, "k": 1}, {"a": 1, "k": 1}],
        [{}, {"k": 1}, {"a": 1, "b": 1}],
    ),
    "oneOf of arrays": (
        {"oneOf": [{"type": "array", "items": INTEGER}, {"type": "array", "items": STRING}]},
        [[1], ["a", "b"], [1, 2]],
        [[], [1, "a"]],
    ),
    "oneOf of constants that are equal in JSON": (
        {"oneOf": [{"const": [1, {"a": 2.0}]}, {"enum": [[1.0, {"a": 2}], [3]]}]},
        [[3]],
        [[1, {"a": 2}], [1]],
    ),
    "keywords beside a reference in an old draft": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"word": STRING},
            "oneOf": [{"$ref": "#/definitions/word", "maxLength": 1}, {"type": "string", "minLength": 3}],
        },
        ["ab", ""],
        ["abc", 1],
    ),
    "property names that match a pattern": (
        {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "additionalProperties": INTEGER},
        [{"a": 1, "bc": 2}, {}],
        [{"A": 1}, {"a": "x"}, {"a1": 1}],
    ),
    "property names beside a pattern that matches all": (
        {"type": "object", "propertyNames": {"pattern": "^a"}, "patternProperties": {".*": INTEGER}},
        [{"a": 1, "ab": 2}],
        [{"b": 1}, {"a": "x"}],
    ),
    "property names from a list": (
        {"type": "object", "propertyNames": {"$ref": "#/$defs/n"}, "$defs": {"n": {"enum": ["x", "y"]}}},
        [{"x": 1}, {"x": 2, "y": "a"}, {}],
        [{"z": 1}],
    ),
    "uri-reference": (
        {"type": "string", "format": "uri-reference"},
        ["", "a/b", "http://a:80/b?c=d#e", "%20"],
        ["a b", "1:b", "%2"],
    ),
    "at least one property": ({**object_of("a", "b", "c"), "minProperties": 1}, [{"b": 1}, {"a": 1, "c": 1}], [{}]),
    "at least two properties": (
        {**object_of("a", "b", "c", required=["c"]), "minProperties": 2},
        [{"b": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}],
        [{"c": 1}, {"a": 1, "b": 1}],
    ),
    "at most one property": ({**object_of("a", "b"), "maxProperties": 1}, [{}, {"a": 1}], [{"a": 1, "b": 1}]),
    "at most all properties": ({**object_of("a", "b"), "maxProperties": 2}, [{}, {"a": 1, "b": 1}], [{"c": 1}]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rewritten_keywords_are_enforced(name: str) -> None:
    assert_enforced(*CASES[name])


@pytest.mark.parametrize("invalid", [3, "nosuch", [], ["string", None]])
def test_an_unknown_type_is_refused_in_a_negation_too(invalid: Any) -> None:
    for negated in ({"type": invalid}, {"allOf": [{"type": invalid}]}):
        with pytest.raises(InvalidRequestError, match="is not a JSON type"):
            json_grammar({"type": "object", "not": negated})
