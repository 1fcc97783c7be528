"""An object whose schema does not mention additional properties is generated closed."""

from __future__ import annotations

from typing import Any

import pytest

from server.errors import InvalidRequestError
from tests.grammars import INTEGER, STRING, accepts, assert_enforced, block, json_grammar, required


def of(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object that requires all of `properties`."""
    return {"type": "object", "properties": properties, "required": list(properties)}


SELF = {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}}
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "properties": ({"properties": {"a": INTEGER}, "type": "object"}, [{}, {"a": 1}], [{"b": 1}, {"a": 1, "b": 1}]),
    "a name required outside properties": (
        {"type": "object", "properties": {"a": INTEGER}, "required": ["b"]},
        [{"a": 1, "b": [2]}, {"b": 2}],
        [{"a": 1}, {"b": 2, "c": 1}],
    ),
    "no properties": ({"type": "object"}, [{"b": 1}], []),
    "explicit true": ({"type": "object", "properties": {"a": INTEGER}, "additionalProperties": True}, [{"b": 1}], []),
    "an explicit schema": (
        {"type": "object", "properties": {"a": INTEGER}, "additionalProperties": STRING},
        [{"b": "x"}],
        [{"b": 1}],
    ),
    "allOf": (
        {"allOf": [{"properties": {"a": INTEGER}}, {"properties": {"b": INTEGER}}], "type": "object"},
        [{"a": 1, "b": 1}, {"b": 1}],
        [{"a": 1, "c": 1}],
    ),
    "allOf with an open part": (
        {"allOf": [{"properties": {"a": INTEGER}}, {"additionalProperties": True}], "type": "object"},
        [{"c": 1}],
        [],
    ),
    "allOf of one property's parts": (
        {"allOf": [{"properties": {"a": of(x=INTEGER)}}, {"properties": {"a": of(y=INTEGER)}}], "type": "object"},
        [{"a": {"x": 1, "y": 1}}],
        [{"b": 1}],
    ),
    "a reference": (
        {"$ref": "#/$defs/node", "$defs": {"node": SELF}},
        [{"a": {"a": {}}}],
        [{"a": {"b": {}}}, {"b": {}}],
    ),
    "a reference beside properties": (
        {"allOf": [{"$ref": "#/$defs/node"}, {"properties": {"z": INTEGER}}], "$defs": {"node": SELF}},
        [{"a": {}, "z": 1}],
        [{"y": 1}],
    ),
    "if": (
        {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
            "if": {"properties": {"on": {"const": True}}},
            "then": {"properties": {"a": INTEGER}, "required": ["a"]},
        },
        [{"on": True, "a": 1}, {"on": False}],
        [{"on": True}, {"on": False, "z": 1}],
    ),
    "anyOf": ({"anyOf": [{"type": "null"}, of(a=INTEGER)]}, [None, {"a": 1}], [{"a": 1, "b": 1}]),
    "oneOf of different names": (
        {"oneOf": [of(a=INTEGER), of(b=INTEGER)]},
        [{"a": 1}, {"b": 1}],
        [{"a": 1, "b": 1}, {}],
    ),
    "oneOf beside properties": (
        {"type": "object", "properties": {"k": STRING}, "oneOf": [of(a=INTEGER), of(b=INTEGER)]},
        [{"k": "x", "a": 1}, {"b": 1}],
        [{"a": 1, "b": 1}, {"a": 1, "z": 1}, {"k": "x"}],
    ),
    "oneOf with an overlap that can be taken away": (
        {"oneOf": [{"type": "string"}, {"type": ["string", "null"]}]},
        [None],
        ["x", 1],
    ),
    "oneOf told apart by a property that may be missing": (
        {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "x": INTEGER}},
                {"properties": {"kind": {"const": "c"}, "x": STRING}},
            ]
        },
        [{"kind": "a", "x": 1}, {"kind": "c", "x": "y"}, {"x": 1}, {"x": "y"}, 5],
        [{"kind": "c", "x": 1}, {"kind": "a", "x": "y"}, {}],
    ),
    "oneOf whose names overlap": (
        {"oneOf": [of(a={"type": "boolean"}), {"type": "object", "properties": {"b": STRING}}]},
        [{"b": "x"}, {}],
        [{"a": True}, {"a": True, "b": "x"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_only_properties_that_the_schema_names_are_generated(name: str) -> None:
    assert_enforced(*CASES[name])


def test_arguments_and_their_objects_are_closed() -> None:
    grammar = required({"type": "object", "properties": {"x": of(a=INTEGER)}})
    assert accepts(grammar, block('f(x={"a": 1})'))
    assert not accepts(grammar, block('f(x={"a": 1, "b": 2})'))
    assert not accepts(grammar, block('f(**{"y": 1})'))


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]},
        {"oneOf": [{"type": "object", "properties": {"a": INTEGER}}, {"type": "object", "properties": {"b": INTEGER}}]},
        {"oneOf": [STRING, STRING]},
        {"oneOf": [{"type": "number"}, {"type": "integer"}]},
        {"oneOf": [{"type": "string", "format": "hostname"}, {"type": "string", "format": "ipv4"}]},
    ],
)
def test_an_overlap_that_cannot_be_taken_away_is_an_error(schema: Any) -> None:
    with pytest.raises(InvalidRequestError, match="may both match"):
        json_grammar(schema)


@pytest.mark.parametrize("names", [{"type": "string"}, {"type": ["string", "null"], "description": "a name"}, True, {}])
def test_property_names_that_may_be_any_string_are_no_restriction(names: Any) -> None:
    schema = {"type": "object", "propertyNames": names, "additionalProperties": INTEGER}
    assert accepts(json_grammar(schema), '{"any name": 1}')
