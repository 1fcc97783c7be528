"""Where calls and text may stand in an answer, and the forms that text can have."""

from __future__ import annotations

from typing import Any

import pytest

from server.chat.constrained.grammar import CallMode, call_grammar, text_grammar
from server.chat.types import TextForm
from server.errors import InvalidRequestError
from tests.grammars import (
    TOKENIZER,
    VOCAB_SIZE,
    accepts,
    allowed,
    analysed,
    block,
    compiled,
    json_form,
    json_grammar,
    object_of,
    source_of,
    tool,
)


def test_a_required_answer_consists_only_of_calls() -> None:
    grammar = call_grammar([tool({}, "a"), tool({}, "b-c.d")], CallMode.REQUIRED, parallel=True)
    assert accepts(grammar, block("a()", "b-c.d()", "a()"))
    assert not accepts(grammar, "")
    assert not accepts(grammar, "Sure. " + block("a()"))
    assert not accepts(grammar, block("a()") + " Done.")
    assert not accepts(grammar, block("a()") + block("a()"))
    assert not accepts(grammar, "<|tool_call_start|>[]<|tool_call_end|>")


def test_without_parallel_calls_there_is_exactly_one() -> None:
    grammar = call_grammar([tool({})], CallMode.REQUIRED, parallel=False)
    assert accepts(grammar, block("f()"))
    assert not accepts(grammar, block("f()", "f()"))


def test_under_auto_text_outside_calls_is_free() -> None:
    grammar = call_grammar([tool(object_of("a"))], CallMode.AUTO, parallel=True)
    for text in ("", "Just [text](x).", "Look: " + block("f(a=1)") + " and " + block("f()", "f()") + " done"):
        assert accepts(grammar, text), text
    for text in (block("g()"), block('f(a="x")'), "Look: " + block("f(b=1)"), "<|tool_call_start|>"):
        assert not accepts(grammar, text), text


def test_under_auto_the_start_marker_cannot_be_spelled_out_as_text() -> None:
    marker = "<|tool_call_start|>"
    for parallel in (True, False):
        constraint = compiled(call_grammar([tool({})], CallMode.AUTO, parallel=parallel)).start()
        for token in TOKENIZER.encode(f"{block('f()')}a < {marker[:-1]}"):
            constraint.commit(token)
        (end,) = TOKENIZER.encode_literally(">")
        assert not allowed(constraint)[end]
        assert allowed(constraint).sum() > VOCAB_SIZE / 2
        constraint.commit(TOKENIZER.encode("a")[0])
        assert allowed(constraint)[end]


def test_under_auto_without_parallel_calls_there_is_no_second_block() -> None:
    grammar = call_grammar([tool({})], CallMode.AUTO, parallel=False)
    assert accepts(grammar, "So " + block("f()") + " there.")
    assert not accepts(grammar, block("f()") + " " + block("f()"))


def test_with_a_text_form_the_answer_is_either_calls_or_that_text() -> None:
    grammar = call_grammar(
        [tool({})], CallMode.AUTO, parallel=True, text_form=json_form(object_of("a", required=["a"]))
    )
    assert accepts(grammar, block("f()"))
    assert accepts(grammar, '{"a": 1}')
    assert not accepts(grammar, "{}")
    assert not accepts(grammar, "text")
    assert not accepts(grammar, '{"a": 1}' + block("f()"))


def test_json_mode_is_exactly_one_object() -> None:
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
def test_text_matches_a_regex_a_choice_or_a_grammar(kind: Any, value: Any, right: list[str], wrong: list[str]) -> None:
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
        ("grammar", "some words", "`guided_grammar` is not a valid grammar: Expected ::="),
        ("grammar", "x" * 70_000, "`guided_grammar` is too long: a grammar may have at most 65,536 characters."),
        ("grammar", "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(4000)) + "r4000: start", "too large"),
    ],
)
def test_an_invalid_form_is_an_error(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        analysed(source_of(text_form=TextForm(kind, value, f"guided_{kind}")))
    assert message in str(error.value)
    assert error.value.param == f"guided_{kind}"


def test_whitespace_is_bounded_and_never_at_the_end() -> None:
    grammar = json_grammar(object_of("a"))
    for text in ('{"a":1}', '{ "a" : 1 }', '{\n    "a": 1\n}', '{\n\t"a": 1\n}'):
        assert accepts(grammar, text), text
    for text in ('{  "a": 1}', '{\n\n"a": 1}', '{"a": 1} ', '{"a": 1}\n', ' {"a": 1}', "{" + "\n" + " " * 40 + "}"):
        assert not accepts(grammar, text), text
