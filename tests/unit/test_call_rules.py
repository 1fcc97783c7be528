"""Which calls of a tool a grammar allows, by the tool's schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.grammars import (
    INTEGER,
    STRING,
    accepts,
    block,
    object_of,
    parsed,
    required,
    tool,
)

TREE = {
    "type": "object",
    "properties": {"name": STRING, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name"],
    "additionalProperties": False,
}

# For each case: a tool's parameters, calls that the grammar allows, and calls that it does not.
CALLS: dict[str, tuple[Any, list[str], list[str]]] = {
    "no parameters": ({}, ["f()"], ["f(a=1)", "f", "g()", "f(**{})"]),
    "no properties": ({"type": "object", "properties": {}}, ["f()"], ["f(a=1)", 'f(**{"a": 1})']),
    "required and optional arguments, in the schema's order": (
        object_of("a", "b", "c", required=["b"]),
        ["f(b=1)", "f(a=1, b=2)", "f(b=2, c=3)", "f(a=1, b=2, c=3)", "f(a=1,b=2)"],
        ["f()", "f(a=1)", "f(b=1, a=2)", "f(b=1, b=2)", "f(b=1, d=2)", "f(b=1,)", "f(, b=1)", "f(1)"],
    ),
    "only optional arguments": (
        object_of("a", "b"),
        ["f()", "f(a=1)", "f(b=1)", "f(a=1, b=1)"],
        ["f(b=1, a=1)", "f(a=1, a=1)", "f(c=1)"],
    ),
    "types": (
        {"type": "object", "properties": {"s": STRING, "n": {"type": "number"}, "l": {"type": "array"}}},
        ['f(s="x")', 'f(s="\\"\\n")', "f(n=-1.5)", "f(n=0)", 'f(l=[1, "a", {"b": null}])', 'f(s="é≠🙂")'],
        ["f(s=1)", "f(s='x')", "f(n=1e999)", "f(n=NaN)", "f(n=01)", "f(n=True)", "f(l={})", 'f(s="x', "f(s=x)"],
    ),
    "constants of Python and JSON if the schema admits them": (
        {
            "type": "object",
            "properties": {
                "flag": {"type": "boolean"},
                "only": {"const": True},
                "maybe": {"anyOf": [INTEGER, {"type": "null"}]},
                "text": STRING,
                "nested": {"type": "array", "items": {"type": "boolean"}},
            },
        },
        ["f(flag=True)", "f(flag=false)", "f(only=True)", "f(maybe=None)", "f(maybe=null)", "f(nested=[true])"],
        ["f(flag=None)", "f(only=False)", "f(maybe=True)", "f(text=None)", "f(nested=[True])", "f(flag=TRUE)"],
    ),
    "numbers are bounded, even in unrestricted values": (
        {
            "type": "object",
            "properties": {"x": {}, "o": {"type": "object"}, "l": {"type": "array"}, "n": {"minimum": 1}},
        },
        [
            'f(x={"a": [1, -2.5, "b", null, true]})',
            'f(o={"a": {"b": 1}})',
            "f(l=[[]])",
            "f(n=2)",
            'f(n="x")',
            "f(x=None)",
        ],
        ["f(x=1e999)", 'f(o={"a": {"b": 1e999}})', "f(l=[[1e999]])", "f(n=1e999)", 'f(n={"a": 1e999})', "f(n=0)"],
    ),
    "enum and const": (
        {"type": "object", "properties": {"unit": {"enum": ["c", "f", None, 3]}, "kind": {"const": "x"}}},
        ['f(unit="c")', "f(unit=None)", "f(unit=3)", 'f(kind="x")'],
        ['f(unit="k")', "f(unit=4)", 'f(kind="y")', "f(unit=True)"],
    ),
    "bounds, lengths and patterns": (
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 2, "maximum": 12},
                "s": {"type": "string", "minLength": 2, "maxLength": 3},
                "p": {"type": "string", "pattern": r"^\d{2}\-[a-c]+$"},
                "l": {"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 2},
                "m": {"type": "integer", "multipleOf": 5},
            },
        },
        ["f(n=2)", "f(n=12)", 'f(s="ab")', 'f(p="12-abc")', "f(l=[1])", "f(l=[1, 2])", "f(m=-15)"],
        ["f(n=1)", "f(n=13)", 'f(s="a")', 'f(s="abcd")', 'f(p="1-a")', "f(l=[])", "f(l=[1, 2, 3])", "f(m=7)"],
    ),
    "a known format is enforced, an unknown one ignored": (
        {
            "type": "object",
            "properties": {"day": {"type": "string", "format": "date"}, "x": {"type": "string", "format": "color"}},
        },
        ['f(day="2024-02-29")', 'f(x="anything")'],
        ['f(day="29.2.2024")'],
    ),
    "nested objects and arrays": (
        {
            "type": "object",
            "properties": {"o": {**object_of("a", "b", required=["a"], additionalProperties=False)}},
            "required": ["o"],
        },
        ['f(o={"a": 1})', 'f(o={"a": 1, "b": 2})', 'f(o={\n  "a": 1\n})'],
        ["f(o={})", 'f(o={"b": 1})', 'f(o={"a": 1, "c": 2})', 'f(o={"a": 1, "a": 2})', "f(o={'a': 1})"],
    ),
    "names that cannot be written as name=value follow after **": (
        object_of("a", "odd name", 'quo"te', required=["odd name"]),
        ['f(**{"odd name": 1})', 'f(a=1, **{"odd name": 1, "quo\\"te": 2})'],
        ["f(a=1)", 'f(a=1, **{"quo\\"te": 2})', 'f(**{"odd name": 1}, a=1)', 'f(**{"a": 1, "odd name": 1})'],
    ),
    "names may contain dashes, dots and dollars and be keywords": (
        object_of("x-y", "a.b", "$top", "class", "None", "größe"),
        ["f(x-y=1, a.b=2, $top=3, class=4, None=5, größe=6)"],
        ["f(x_y=1)"],
    ),
    "additional arguments only if the schema allows them": (
        object_of("a", additionalProperties=STRING),
        ["f()", "f(a=1)", 'f(a=1, **{"b": "x"})', 'f(**{"b": "x", "c": "y"})'],
        ['f(b="x")', 'f(**{"b": 1})', 'f(a=1, **{"a": "x"})', 'f(a=1, **{"\\u0061": "x"})'],
    ),
    "a composed root is one object after **": (
        {"anyOf": [object_of("a", required=["a"]), object_of("b", required=["b"])], "type": "object"},
        ['f(**{"a": 1})', 'f(**{"b": 1})'],
        ["f()", "f(a=1)", "f(**{})", "f(**[])", 'f(**{"a": "x"})'],
    ),
    "pattern properties follow after **": (
        {"type": "object", "patternProperties": {"^x-": INTEGER}, "additionalProperties": False},
        ["f(**{})", 'f(**{"x-a": 1})'],
        ['f(**{"a": 1})', 'f(**{"x-a": "b"})'],
    ),
    "references, including recursive ones": (
        {
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/tree"}, "id": {"$ref": "#/$defs/a~1b"}},
            "required": ["tree"],
            "$defs": {
                "tree": {**TREE, "properties": {"name": STRING, "child": {"$ref": "#/$defs/tree"}}},
                "a/b": INTEGER,
            },
        },
        ['f(tree={"name": "a"})', 'f(tree={"name": "a", "child": {"name": "b"}}, id=3)'],
        ["f(tree={})", 'f(tree={"name": "a", "child": {}})', 'f(tree={"name": "a"}, id="x")'],
    ),
    "a root that refers to itself": (
        TREE,
        ['f(name="a")', 'f(name="a", children=[{"name": "b", "children": []}])'],
        ['f(name="a", children=[{}])'],
    ),
    "a root that is a reference": (
        {"$ref": "#/$defs/point", "$defs": {"point": object_of("x", "y", required=["x"])}},
        ["f(x=1)", "f(x=1, y=2)"],
        ["f(y=2)", 'f(**{"x": 1})'],
    ),
    "allOf": (
        {"type": "object", "properties": {"v": {"allOf": [{"minimum": 3}, {"type": "integer"}, {"maximum": 5}]}}},
        ["f(v=3)", "f(v=5)"],
        ["f(v=2)", "f(v=6)", 'f(v="x")'],
    ),
    "oneOf whose branches differ in a constant": (
        {
            "type": "object",
            "properties": {
                "shape": {
                    "oneOf": [
                        {"$ref": "#/$defs/circle"},
                        {"type": "object", "properties": {"kind": {"enum": ["square"]}}, "required": ["kind"]},
                    ]
                }
            },
            "$defs": {
                "circle": {
                    "type": "object",
                    "properties": {"kind": {"const": "circle"}, "radius": INTEGER},
                    "required": ["kind", "radius"],
                }
            },
        },
        ['f(shape={"kind": "circle", "radius": 1})', 'f(shape={"kind": "square"})'],
        ['f(shape={"kind": "circle"})', 'f(shape={"kind": "oval"})', "f(shape={})"],
    ),
    "oneOf of types, and of closed objects": (
        {
            "type": "object",
            "properties": {
                "v": {"oneOf": [STRING, INTEGER]},
                "o": {
                    "oneOf": [
                        object_of("a", required=["a"], additionalProperties=False),
                        object_of("b", required=["b"], additionalProperties=False),
                    ]
                },
            },
        },
        ['f(v="x")', "f(v=1)", 'f(o={"a": 1})', 'f(o={"b": 1})'],
        ["f(v=1.5)", 'f(o={"a": 1, "b": 1})', "f(o={})"],
    ),
    "exactly one of two properties": (
        {
            "type": "object",
            "properties": {"v": {**object_of("a", "b"), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}},
        },
        ['f(v={"a": 1})', 'f(v={"b": 1})'],
        ["f(v={})", 'f(v={"a": 1, "b": 2})'],
    ),
    "dependencies and conditions": (
        {
            "type": "object",
            "properties": {
                "v": {**object_of("a", "b", additionalProperties=False), "dependentRequired": {"a": ["b"]}},
                "w": {
                    "type": "object",
                    "properties": {"on": {"type": "boolean"}, "n": INTEGER},
                    "required": ["on"],
                    "if": {"properties": {"on": {"const": True}}},
                    "then": {"required": ["n"]},
                },
            },
        },
        ['f(v={"b": 1})', 'f(v={"a": 1, "b": 2})', 'f(w={"on": false})', 'f(w={"on": true, "n": 1})'],
        ['f(v={"a": 1})', 'f(w={"on": true})'],
    ),
    "an unsatisfiable optional argument must be absent": (
        {"type": "object", "properties": {"a": {"type": "string", "allOf": [INTEGER]}, "b": False, "c": INTEGER}},
        ["f()", "f(c=1)"],
        ["f(a=1)", 'f(a="x")', "f(b=1)"],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_required_call_follows_the_schema(name: str) -> None:
    schema, good, bad = CALLS[name]
    grammar = required(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for call in good:
        assert accepts(grammar, block(call)), call
        (read,) = parsed([tool(schema)], block(call))
        validator.validate(json.loads(read.arguments))
    for call in bad:
        assert not accepts(grammar, block(call)), call
