"""Schemas that cannot be enforced, or only at too high a cost, are errors or are reported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.chat.constrained.grammar import CallMode, call_grammar
from server.errors import InvalidRequestError
from tests.grammars import (
    INTEGER,
    STRING,
    accepts,
    analysed,
    block,
    compiled,
    json_grammar,
    json_source,
    object_of,
    required,
    tool,
)

UNENFORCEABLE = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "contains": {"type": "array", "contains": STRING},
    "propertyNames": {"type": "object", "propertyNames": {"maxLength": 3}},
    "not": {"not": {"format": "date"}},
    "oneOf": {"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]},
    "$ref": {"$ref": "https://example.com/schema.json"},
    "pattern": {"type": "string", "pattern": "(?=a)b"},
    "type": {"type": "text"},
    "minProperties": {**object_of("a", "b", "c"), "minProperties": 2, "additionalProperties": True},
}


@pytest.mark.parametrize("keyword", UNENFORCEABLE)
def test_an_unenforceable_keyword_is_an_error_naming_it_if_enforcement_is_required(keyword: str) -> None:
    parameters = {"type": "object", "properties": {"x": UNENFORCEABLE[keyword]}}
    for grammar_of in (
        lambda: required(parameters),
        lambda: call_grammar([tool(parameters, strict=True)], CallMode.AUTO, parallel=True),
    ):
        with pytest.raises(InvalidRequestError) as error:
            compiled(grammar_of())
        assert error.value.param == "tools[0].function.parameters"
        assert "properties.x" in str(error.value)
    with pytest.raises(InvalidRequestError) as error:
        compiled(json_grammar(UNENFORCEABLE[keyword]))
    assert error.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("keyword", UNENFORCEABLE)
def test_under_auto_an_unenforceable_keyword_is_reported(keyword: str) -> None:
    parameters = {"type": "object", "properties": {"n": INTEGER, "x": UNENFORCEABLE[keyword]}}
    result = compiled(grammar := call_grammar([tool(parameters)], CallMode.AUTO, parallel=True))
    (message,) = result.unenforced
    assert "tools[0].function.parameters.properties.x" in message
    assert not accepts(grammar, block('f(n="x")'))
    assert not accepts(grammar, block("f(y=1)"))


def test_other_keywords_beside_an_unenforceable_one_are_enforced() -> None:
    words = {"type": "array", "items": STRING, "uniqueItems": True}
    grammar = call_grammar([tool({"type": "object", "properties": {"x": words}})], CallMode.AUTO, parallel=True)
    assert accepts(grammar, block('f(x=["a", "a"])'))
    assert not accepts(grammar, block("f(x=[1])"))


def test_parameters_that_are_not_an_object_are_an_error() -> None:
    with pytest.raises(InvalidRequestError, match="must be an object"):
        required({"type": "array"})


def nested(depth: int) -> Any:
    schema: Any = STRING
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def chained(length: int) -> Any:
    definitions = {f"d{i}": {"properties": {"x": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": STRING}}


def doubling(length: int, keyword: str) -> Any:
    definitions = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(length)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{length}": STRING}}


COSTLY = {
    "nested too deeply": nested(500),
    "references in a long chain": chained(5000),
    "too many subschemas": {"anyOf": [{"const": i, "type": "integer"} for i in range(50_000)]},
    "a huge enum": {"enum": [f"{i:040}" for i in range(100_000)]},
    "an intersection of many unions": {
        "allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {"const": i}}} for i in range(9)]} for j in range(9)]
    },
    "negations that grow exponentially": {
        "not": doubling(60, "anyOf")["$defs"]["d0"],
        "$defs": doubling(60, "anyOf")["$defs"],
    },
    "oneOf that grows exponentially": doubling(60, "oneOf"),
    "multiples with many states": {"allOf": [{"type": "integer", "multipleOf": n} for n in (99_991, 99_989)]},
    "at least one of many properties": {
        "minProperties": 1,
        "properties": {f"p{i}": STRING for i in range(3000)},
        "additionalProperties": False,
    },
    "many property patterns": {"type": "object", "patternProperties": {f"^p{i}_": STRING for i in range(2000)}},
    "a pattern with many states": {
        "type": "string",
        "pattern": "^(a|b)*a(a|b){5000}$",
        "allOf": [{"pattern": "b{900}"}],
    },
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_schema_that_is_too_costly_is_an_error(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        analysed(json_source(COSTLY[name]))


def test_a_tool_with_thousands_of_arguments_compiles_in_a_thread() -> None:
    schema = object_of(*(f"p{i}" for i in range(3000)), additionalProperties=False)
    grammar = required(schema)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: accepts(grammar, block("f(p0=1, p7=2, p2999=3)"))).result()


def test_a_large_definition_used_by_every_argument_is_an_error() -> None:
    large = {"enum": [f"{i:040}" for i in range(5_000)]}
    properties = {f"p{i}": {"anyOf": [{"$ref": "#/$defs/large"}, {"const": i}]} for i in range(5_000)}
    with pytest.raises(InvalidRequestError, match="too large"):
        required({"type": "object", "properties": properties, "$defs": {"large": large}})


def test_the_longest_permitted_chain_of_references_compiles_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: compiled(json_grammar(chained(30)))).result()


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["a", "object", "string", "#", "#/$defs/a", "date"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "required",
                    "items",
                    "anyOf",
                    "oneOf",
                    "allOf",
                    "not",
                    "if",
                    "then",
                    "enum",
                    "const",
                    "$ref",
                    "$defs",
                    "a",
                    "pattern",
                    "format",
                    "minimum",
                    "maxItems",
                    "uniqueItems",
                    "dependencies",
                    "additionalProperties",
                    "patternProperties",
                    "minProperties",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JUNK)
def test_any_json_sent_as_a_schema_is_enforced_or_an_error(schema: Any) -> None:
    for make in (lambda: json_grammar(schema), lambda: required(schema)):
        with suppress(InvalidRequestError):
            compiled(make())
    if isinstance(schema, dict):
        compiled(call_grammar([tool(schema)], CallMode.AUTO, parallel=True))
