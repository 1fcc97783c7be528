"""What a grammar lets a model write, token by token, and how it ends when it cannot be made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.chat.constrained.compiler import ConstraintError, GrammarCompiler, WantedGrammar
from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, text_grammar
from server.chat.tokenizer import Tokenizer
from server.chat.tool_calls.free_parser import ParsedCall, ToolCallParser, ToolSignature
from server.chat.types import TextForm, Thoughts, Tool
from server.engine.sampling.constraint import Constraint, mask_words
from server.errors import InvalidRequestError

TOKENIZER = Tokenizer.load(Path(__file__).parents[2] / "server" / "demo")
END = TOKENIZER.special["<|im_end|>"]
VOCAB_SIZE = 1024
COMPILER = GrammarCompiler(TOKENIZER, VOCAB_SIZE, [END])

STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def allowed(constraint: Constraint) -> np.ndarray:
    """Which tokens may come next."""
    words = np.zeros(mask_words(VOCAB_SIZE), np.int32)
    if not constraint.mask(words):
        return np.ones(VOCAB_SIZE, bool)
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:VOCAB_SIZE].astype(bool)


def accepts(grammar: Grammar, text: str, thoughts: Thoughts = Thoughts.NONE) -> bool:
    """Whether a model under `grammar` can write `text` and end there."""
    constraint = COMPILER.compile(grammar).start(thoughts)
    for token in [*TOKENIZER.encode(text), END]:
        if not allowed(constraint)[token]:
            return False
        constraint.commit(token)
    return True


def block(*calls: str) -> str:
    return f"<|tool_call_start|>[{', '.join(calls)}]<|tool_call_end|>"


def tool(parameters: Any, name: str = "f", *, strict: bool = False) -> Tool:
    return Tool(name, None, parameters, strict, "tools[0].function")


def json_form(schema: Any) -> TextForm:
    return TextForm("json", schema, "response_format.json_schema.schema")


def json_grammar(schema: Any) -> Grammar:
    return text_grammar(json_form(schema))


def required(parameters: Any) -> Grammar:
    return call_grammar([tool(parameters)], CallMode.REQUIRED, parallel=True)


def parsed(tools: Sequence[Tool], text: str) -> list[ParsedCall]:
    parser = ToolCallParser([ToolSignature(tool.name, tool.properties) for tool in tools])
    pieces = [*parser.feed(text), *parser.finish()]
    assert all(isinstance(piece, ParsedCall) for piece in pieces), f"not read as calls: {text}"
    return [piece for piece in pieces if isinstance(piece, ParsedCall)]


def object_of(*names: str, required: Sequence[str] = (), **others: Any) -> dict[str, Any]:
    """An object of integers."""
    return {"type": "object", "properties": dict.fromkeys(names, INTEGER), "required": list(required), **others}


TREE = {
    "type": "object",
    "properties": {"name": STRING, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name"],
    "additionalProperties": False,
}

# What a tool's parameters are, which calls the model can write, and which it cannot.
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
    "constants of Python and JSON where the schema admits them": (
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
    "numbers that can be read, also where anything may stand": (
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
    "names that no argument can have go behind **": (
        object_of("a", "odd name", 'quo"te', required=["odd name"]),
        ['f(**{"odd name": 1})', 'f(a=1, **{"odd name": 1, "quo\\"te": 2})'],
        ["f(a=1)", 'f(a=1, **{"quo\\"te": 2})', 'f(**{"odd name": 1}, a=1)', 'f(**{"a": 1, "odd name": 1})'],
    ),
    "dashes, dots, dollars and keywords are names": (
        object_of("x-y", "a.b", "$top", "class", "None", "größe"),
        ["f(x-y=1, a.b=2, $top=3, class=4, None=5, größe=6)"],
        ["f(x_y=1)"],
    ),
    "further arguments only where the schema says so": (
        object_of("a", additionalProperties=STRING),
        ["f()", "f(a=1)", 'f(a=1, **{"b": "x"})', 'f(**{"b": "x", "c": "y"})'],
        ['f(b="x")', 'f(**{"b": 1})', 'f(a=1, **{"a": "x"})', 'f(a=1, **{"\\u0061": "x"})'],
    ),
    "a composed root goes behind **": (
        {"anyOf": [object_of("a", required=["a"]), object_of("b", required=["b"])], "type": "object"},
        ['f(**{"a": 1})', 'f(**{"b": 1})'],
        ["f()", "f(a=1)", "f(**{})", "f(**[])", 'f(**{"a": "x"})'],
    ),
    "pattern properties go behind **": (
        {"type": "object", "patternProperties": {"^x-": INTEGER}, "additionalProperties": False},
        ["f(**{})", 'f(**{"x-a": 1})'],
        ['f(**{"a": 1})', 'f(**{"x-a": "b"})'],
    ),
    "references, recursive too": (
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
    "oneOf with a constant that tells its branches apart": (
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
    "an optional argument that nothing satisfies cannot be given": (
        {"type": "object", "properties": {"a": {"type": "string", "allOf": [INTEGER]}, "b": False, "c": INTEGER}},
        ["f()", "f(c=1)"],
        ["f(a=1)", 'f(a="x")', "f(b=1)"],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_required_call_follows_its_schema(name: str) -> None:
    schema, good, bad = CALLS[name]
    grammar = required(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for call in good:
        assert accepts(grammar, block(call)), call
        (read,) = parsed([tool(schema)], block(call))
        validator.validate(json.loads(read.arguments))
    for call in bad:
        assert not accepts(grammar, block(call)), call


def test_a_required_answer_is_calls_and_nothing_else() -> None:
    grammar = call_grammar([tool({}, "a"), tool({}, "b-c.d")], CallMode.REQUIRED, parallel=True)
    assert accepts(grammar, block("a()", "b-c.d()", "a()"))
    assert not accepts(grammar, "")
    assert not accepts(grammar, "Sure. " + block("a()"))
    assert not accepts(grammar, block("a()") + " Done.")
    assert not accepts(grammar, block("a()") + block("a()"))
    assert not accepts(grammar, "<|tool_call_start|>[]<|tool_call_end|>")


def test_without_parallel_calls_there_is_one() -> None:
    grammar = call_grammar([tool({})], CallMode.REQUIRED, parallel=False)
    assert accepts(grammar, block("f()"))
    assert not accepts(grammar, block("f()", "f()"))


def test_under_auto_text_is_free_until_a_call_opens() -> None:
    grammar = call_grammar([tool(object_of("a"))], CallMode.AUTO, parallel=True)
    for text in ("", "Just [text](x).", "Look: " + block("f(a=1)") + " and " + block("f()", "f()") + " done"):
        assert accepts(grammar, text), text
    for text in (block("g()"), block('f(a="x")'), "Look: " + block("f(b=1)"), "<|tool_call_start|>"):
        assert not accepts(grammar, text), text


def test_under_auto_no_call_opens_by_what_is_spelled_out() -> None:
    marker = "<|tool_call_start|>"
    for parallel in (True, False):
        constraint = COMPILER.compile(call_grammar([tool({})], CallMode.AUTO, parallel=parallel)).start()
        for token in TOKENIZER.encode(f"{block('f()')}a < {marker[:-1]}"):
            constraint.commit(token)
        (end,) = TOKENIZER.encode_literally(">")
        assert not allowed(constraint)[end]
        assert allowed(constraint).sum() > VOCAB_SIZE / 2
        constraint.commit(TOKENIZER.encode("a")[0])
        assert allowed(constraint)[end]


def test_under_auto_without_parallel_calls_no_second_one_opens() -> None:
    grammar = call_grammar([tool({})], CallMode.AUTO, parallel=False)
    assert accepts(grammar, "So " + block("f()") + " there.")
    assert not accepts(grammar, block("f()") + " " + block("f()"))


def test_with_a_schema_for_text_the_answer_is_a_call_or_that_json() -> None:
    grammar = call_grammar(
        [tool({})], CallMode.AUTO, parallel=True, text_form=json_form(object_of("a", required=["a"]))
    )
    assert accepts(grammar, block("f()"))
    assert accepts(grammar, '{"a": 1}')
    assert not accepts(grammar, "{}")
    assert not accepts(grammar, "text")
    assert not accepts(grammar, '{"a": 1}' + block("f()"))


def test_json_mode_is_one_object() -> None:
    grammar = json_grammar({"type": "object"})
    for text in ("{}", '{"a": [1, {"b": null}]}', '{\n  "a": 1\n}'):
        assert accepts(grammar, text), text
    for text in ("[]", "1", "", "text", '{"a": 1}{}'):
        assert not accepts(grammar, text), text


@pytest.mark.parametrize(
    ("kind", "value", "right", "wrong"),
    [
        ("regex", r"[A-Z]{2}-\d{2}", ["AB-12"], ["AB-1", "AB-123", " AB-12", "AB-12 "]),
        ("regex", r"^a/b$", ["a/b"], ["a", "^a/b$"]),
        ("regex", "a\\$|b\n", ["a$", "b\n"], ["a", "b"]),
        ("choice", ["yes", 'say "no"\n', "<|tool_call_start|>"], ["yes", 'say "no"\n'], ["ye", "yes ", "no"]),
        ("grammar", 'start: "a" x+\nx: /[0-9]/ | "<" x ">"', ["a1", "a1<2>"], ["a", "a1 2", "a<1"]),
        ("grammar", 'root ::= "a" [0-9]+ | "b"', ["a12", "b"], ["a", "ab"]),
    ],
)
def test_text_can_be_held_to_other_forms(kind: Any, value: Any, right: list[str], wrong: list[str]) -> None:
    form = TextForm(kind, value, f"guided_{kind}")
    for grammar in (text_grammar(form), call_grammar([tool({})], CallMode.AUTO, parallel=True, text_form=form)):
        assert all(accepts(grammar, text) for text in right)
        assert not any(accepts(grammar, text) for text in wrong)
    assert accepts(grammar, block("f()"))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("regex", "(a", "`guided_regex` cannot be enforced: unclosed group."),
        ("regex", "(?=a)b", "`guided_regex` cannot be enforced: look-around"),
        ("grammar", "start: (", "`guided_grammar` cannot be enforced: Expected token ')', found '\\n'."),
        ("grammar", 'start: X\nX: "a" X', '`guided_grammar` cannot be enforced: circular reference in token "X"'),
        ("grammar", "some words", "`guided_grammar` is no grammar: Expected ::="),
        ("grammar", "x" * 70_000, "`guided_grammar` is too long: grammars have at most 65,536 characters."),
        ("grammar", "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(4000)) + "r4000: start", "too large"),
    ],
)
def test_a_form_that_is_none_is_refused(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as told:
        COMPILER.compile(text_grammar(TextForm(kind, value, f"guided_{kind}")))
    assert message in str(told.value)
    assert told.value.param == f"guided_{kind}"


def test_blanks_are_bounded_and_none_follow_the_end() -> None:
    grammar = json_grammar(object_of("a"))
    for text in ('{"a":1}', '{ "a" : 1 }', '{\n    "a": 1\n}', '{\n\t"a": 1\n}'):
        assert accepts(grammar, text), text
    for text in ('{  "a": 1}', '{\n\n"a": 1}', '{"a": 1} ', '{"a": 1}\n', ' {"a": 1}', "{" + "\n" + " " * 40 + "}"):
        assert not accepts(grammar, text), text


def test_a_grammar_begins_behind_the_reasoning() -> None:
    grammar = required({})
    assert accepts(grammar, "Let me think: <|tool_call_start|>[x]</think>" + block("f()"), Thoughts.OPEN)
    assert not accepts(grammar, "no call</think>none", Thoughts.OPEN)
    assert not accepts(grammar, "it just ends", Thoughts.OPEN)
    auto = call_grammar([tool({})], CallMode.AUTO, parallel=True)
    assert accepts(auto, f"{block('nothing')}</think>Hello", Thoughts.OPEN)
    assert not accepts(auto, f"hm</think>{block('nothing')}", Thoughts.OPEN)


def test_a_model_that_may_think_thinks_or_answers() -> None:
    held, auto = required({}), call_grammar([tool({})], CallMode.AUTO, parallel=True)
    for grammar in (held, auto):
        assert accepts(grammar, "<think>Hm.</think>" + block("f()"), Thoughts.POSSIBLE)
        assert accepts(grammar, block("f()"), Thoughts.POSSIBLE)
        assert not accepts(grammar, "<think>Hm.</think>" + block("g()"), Thoughts.POSSIBLE)
        assert not accepts(grammar, block("g()"), Thoughts.POSSIBLE)
    for text in ("", "text", "<thin", "<thing>", "<think>Hm.", "<think>Hm.</think>", "<think>Hm.</think>text"):
        assert not accepts(held, text, Thoughts.POSSIBLE)
        assert accepts(auto, text, Thoughts.POSSIBLE)


REFUSED = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "contains": {"type": "array", "contains": STRING},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "^a"}},
    "not": {"not": {"pattern": "a"}},
    "oneOf": {"oneOf": [{"minimum": 1}, {"maximum": 3}]},
    "$ref": {"$ref": "https://example.com/schema.json"},
    "pattern": {"type": "string", "pattern": "(?=a)b"},
    "type": {"type": "text"},
    "minProperties": {**object_of("a", "b", "c"), "minProperties": 2},
}


@pytest.mark.parametrize("keyword", REFUSED)
def test_what_cannot_be_enforced_is_refused_by_name_where_it_was_asked_for(keyword: str) -> None:
    parameters = {"type": "object", "properties": {"x": REFUSED[keyword]}}
    for grammar_of in (
        lambda: required(parameters),
        lambda: call_grammar([tool(parameters, strict=True)], CallMode.AUTO, parallel=True),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            COMPILER.compile(grammar_of())
        assert refused.value.param == "tools[0].function.parameters"
        assert "properties.x" in str(refused.value)
    with pytest.raises(InvalidRequestError) as refused:
        COMPILER.compile(json_grammar(REFUSED[keyword]))
    assert refused.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("keyword", REFUSED)
def test_under_auto_an_odd_value_is_loosened_and_told_of(keyword: str) -> None:
    parameters = {"type": "object", "properties": {"n": INTEGER, "x": REFUSED[keyword]}}
    compiled = COMPILER.compile(grammar := call_grammar([tool(parameters)], CallMode.AUTO, parallel=True))
    (loosened,) = compiled.loosened
    assert "tools[0].function.parameters.properties.x" in loosened
    assert not accepts(grammar, block('f(n="x")'))
    assert not accepts(grammar, block("f(y=1)"))


def test_a_loosened_keyword_leaves_the_others_in_force() -> None:
    words = {"type": "array", "items": STRING, "uniqueItems": True}
    grammar = call_grammar([tool({"type": "object", "properties": {"x": words}})], CallMode.AUTO, parallel=True)
    assert accepts(grammar, block('f(x=["a", "a"])'))
    assert not accepts(grammar, block("f(x=[1])"))


def test_a_tool_whose_parameters_are_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="an object"):
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
    "nested too deep": nested(500),
    "references in a long chain": chained(5000),
    "too many parts": {"anyOf": [{"const": i, "type": "integer"} for i in range(50_000)]},
    "a huge enum": {"enum": [f"{i:040}" for i in range(100_000)]},
    "an intersection of many unions": {
        "allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {"const": i}}} for i in range(9)]} for j in range(9)]
    },
    "negations that double": {"not": doubling(60, "anyOf")["$defs"]["d0"], "$defs": doubling(60, "anyOf")["$defs"]},
    "oneOf that doubles": doubling(60, "oneOf"),
    "multiples of many states": {"allOf": [{"type": "integer", "multipleOf": n} for n in (99_991, 99_989)]},
    "a choice of many properties": {
        "minProperties": 1,
        "properties": {f"p{i}": STRING for i in range(3000)},
        "additionalProperties": False,
    },
    "many patterns to keep apart": {"type": "object", "patternProperties": {f"^p{i}_": STRING for i in range(2000)}},
    "a pattern of many states": {"type": "string", "pattern": "^(a|b)*a(a|b){5000}$", "allOf": [{"pattern": "b{900}"}]},
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_schema_costs_its_sender_an_error(name: str) -> None:
    def compile_it() -> None:
        COMPILER.compile(json_grammar(COSTLY[name]))

    with ThreadPoolExecutor(1) as threads, pytest.raises(InvalidRequestError):
        threads.submit(compile_it).result()


def test_a_tool_of_thousands_of_arguments_is_compiled_in_a_thread() -> None:
    schema = object_of(*(f"p{i}" for i in range(3000)), additionalProperties=False)
    grammar = required(schema)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: accepts(grammar, block("f(p0=1, p7=2, p2999=3)"))).result()


def test_a_definition_that_every_argument_copies_is_refused_in_time() -> None:
    large = {"enum": [f"{i:040}" for i in range(5_000)]}
    properties = {f"p{i}": {"$ref": "#/$defs/large"} for i in range(5_000)}
    with pytest.raises(InvalidRequestError, match="too large"):
        required({"type": "object", "properties": properties, "$defs": {"large": large}})


def test_a_chain_as_long_as_may_be_compiles_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: COMPILER.compile(json_grammar(chained(30)))).result()


def test_the_same_grammar_is_compiled_once() -> None:
    compiled = COMPILER.cached(WantedGrammar("a", lambda: required(object_of("a"))))
    assert COMPILER.cached(WantedGrammar("b", lambda: required(object_of("b")))) is not compiled
    again = WantedGrammar("a", lambda: pytest.fail("built again"))
    assert COMPILER.cached(again) is COMPILER.known(again) is compiled


def test_forced_tokens_are_what_the_grammar_leaves() -> None:
    constraint = COMPILER.compile(required(object_of("location", required=["location"]))).start()
    assert [TOKENIZER.token_bytes(token) for token in constraint.forced_tokens()] == [b"<|tool_call_start|>"]
    for token in TOKENIZER.encode("<|tool_call_start|>[f(l"):
        constraint.commit(token)
    forced = b"".join(map(TOKENIZER.token_bytes, constraint.forced_tokens()))
    assert forced
    assert b"ocation=".startswith(forced)


def test_a_token_that_was_not_allowed_is_an_error() -> None:
    constraint = COMPILER.compile(required({})).start()
    with pytest.raises(ConstraintError):
        constraint.commit(END)


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
def test_whatever_is_sent_as_a_schema_is_enforced_or_refused(schema: Any) -> None:
    for make in (lambda: json_grammar(schema), lambda: required(schema)):
        with suppress(InvalidRequestError):
            COMPILER.compile(make())
    if isinstance(schema, dict):
        COMPILER.compile(call_grammar([tool(schema)], CallMode.AUTO, parallel=True))


VALUES = st.recursive(
    st.sampled_from(
        [
            {"type": "integer", "minimum": -5, "maximum": 50},
            {"type": "string", "maxLength": 5},
            {"type": "boolean"},
            {"type": ["null", "boolean"]},
            {"enum": ["x", 1, None, True]},
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": "^[a-z]{1,4}$"},
            {"$ref": "#/$defs/pair"},
        ]
    ),
    lambda inner: (
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 2}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(
            lambda properties, closed: {
                "type": "object",
                "properties": properties,
                "required": list(properties)[:1],
                "additionalProperties": closed,
            },
            st.dictionaries(st.sampled_from(["a", "b-c", "d e", "é"]), inner, max_size=3),
            st.sampled_from([False, {"type": "integer"}]),
        )
    ),
    max_leaves=5,
)
PAIR = {"type": "object", "properties": {"a": INTEGER, "b": {"type": "boolean"}}, "additionalProperties": False}


@settings(max_examples=60, deadline=None)
@given(
    properties=st.dictionaries(st.sampled_from(["a", "b-c", "d e", "class", "é"]), VALUES, max_size=4),
    needed=st.integers(0, 4),
    seed=st.integers(0, 2**32),
)
def test_what_a_random_model_writes_parses_and_validates(properties: dict[str, Any], needed: int, seed: int) -> None:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:needed],
        "additionalProperties": False,
        "$defs": {"pair": PAIR},
    }
    constraint = COMPILER.compile(required(schema)).start()
    random = np.random.default_rng(seed)
    text = b""
    for _ in range(600):
        token = int(random.choice(np.flatnonzero(allowed(constraint))))
        if token == END:
            break
        constraint.commit(token)
        text += TOKENIZER.token_bytes(token)
    else:
        return  # it found no end
    for call in parsed([tool(schema)], text.decode()):
        jsonschema.Draft202012Validator(schema).validate(json.loads(call.arguments))
