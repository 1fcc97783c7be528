"""Compiled grammars: the cache, forced tokens, and tokens that are not allowed."""

from __future__ import annotations

import pytest

from server.chat.constrained.compiler import ConstraintError, GrammarSource
from tests.grammars import (
    COMPILER,
    END,
    TOKENIZER,
    object_of,
    required,
)


def test_a_grammar_with_the_same_key_is_compiled_once() -> None:
    compiled = COMPILER.get(GrammarSource("a", lambda: required(object_of("a"))))
    assert COMPILER.get(GrammarSource("b", lambda: required(object_of("b")))) is not compiled
    again = GrammarSource("a", lambda: pytest.fail("the grammar was built again"))
    assert COMPILER.get(again) is COMPILER.find_cached(again) is compiled


def test_forced_tokens_are_those_without_alternative() -> None:
    constraint = COMPILER.compile(required(object_of("location", required=["location"]))).start()
    opening = b"".join(map(TOKENIZER.token_bytes, constraint.forced_tokens()))
    assert b"<|tool_call_start|>[f(location=".startswith(opening)
    assert opening.startswith(b"<|tool_call_start|>[f(l")
    for token in TOKENIZER.encode("<|tool_call_start|>[f(l"):
        constraint.commit(token)
    forced = b"".join(map(TOKENIZER.token_bytes, constraint.forced_tokens()))
    assert forced
    assert b"ocation=".startswith(forced)


def test_committing_a_forbidden_token_is_an_error() -> None:
    constraint = COMPILER.compile(required({})).start()
    with pytest.raises(ConstraintError):
        constraint.commit(END)
