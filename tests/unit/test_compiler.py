"""Compiled grammars: the cache, forced tokens, and tokens that are not allowed."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from llguidance import LLMatcher

from server.chat.constrained.compiler import ConstraintError, GrammarCompiler
from server.chat.constrained.grammar import text_grammar
from server.chat.constrained.grammar_source import GrammarSource
from server.chat.constrained.worker.compilation import anonymous_bytes, known_tokens, try_masks
from server.chat.types import TextForm
from server.engine.sampling.constraint import mask_words
from server.errors import InvalidRequestError
from tests.grammars import (
    COMPILER,
    END,
    TOKENIZER,
    VOCAB_SIZE,
    compiled,
    object_of,
    required,
    source_of,
    tool,
)


async def test_a_grammar_with_the_same_key_is_compiled_once() -> None:
    first, second = (source_of(tool(object_of(name))) for name in "ab")
    compiler = GrammarCompiler(TOKENIZER, VOCAB_SIZE, [END])
    grammar = await compiler.get(first, "tenant")
    assert await compiler.get(second, "tenant") is not grammar
    again = GrammarSource(first.text)
    assert await compiler.get(again, "other") is compiler.find_cached(again) is grammar


def test_forced_tokens_are_those_without_alternative() -> None:
    constraint = compiled(required(object_of("location", required=["location"]))).start()
    opening = b"".join(map(TOKENIZER.token_bytes, constraint.forced_tokens()))
    assert b"<|tool_call_start|>[f(location=".startswith(opening)
    assert opening.startswith(b"<|tool_call_start|>[f(l")
    for token in TOKENIZER.encode("<|tool_call_start|>[f(l"):
        constraint.commit(token)
    forced = b"".join(map(TOKENIZER.token_bytes, constraint.forced_tokens()))
    assert forced
    assert b"ocation=".startswith(forced)


def test_committing_a_forbidden_token_is_an_error() -> None:
    constraint = compiled(required({})).start()
    with pytest.raises(ConstraintError):
        constraint.commit(END)


async def test_the_cache_keeps_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = GrammarCompiler(TOKENIZER, VOCAB_SIZE, [END])
    sources = [source_of(tool(object_of(name))) for name in "abc"]
    sizes = [(await compiler.get(source, "tenant")).size for source in sources]
    assert all(size >= 1 << 16 for size in sizes)
    monkeypatch.setattr("server.chat.constrained.compiler.CACHE_BYTES", sum(sizes) + 100)
    await compiler.get(source_of(tool(object_of("d"))), "tenant")
    assert compiler.find_cached(sources[0]) is None
    assert compiler.find_cached(sources[2]) is not None


@pytest.mark.parametrize("pattern", ["(a{1000}){1003}", "(ab{900}){900}", "(a{1000}){1000}c"])
async def test_a_refused_grammar_leaves_nothing_in_the_server(pattern: str) -> None:
    compiler = GrammarCompiler(TOKENIZER, VOCAB_SIZE, [END])
    source = source_of(text_form=TextForm("regex", pattern, "guided_regex"))
    before = anonymous_bytes()
    with pytest.raises(InvalidRequestError):
        await compiler.get(source, "tenant")
    assert compiler.find_cached(source) is None
    assert anonymous_bytes() - before < 16 << 20


@pytest.mark.parametrize("rule", ['X: "a" X | X X | "b"', "X: /[a-z]/ | X X X | X X", 'X: "a" | X X X X | "b" X'])
def test_a_mask_that_takes_too_much_work_ends_its_sequence(rule: str) -> None:
    grammar = text_grammar(TextForm("grammar", f"start: x\n{rule.replace('X', 'x')}", "guided_grammar"))
    constraint = compiled(grammar).start()
    (token,) = TOKENIZER.encode("a")
    words = np.zeros(mask_words(VOCAB_SIZE), np.int32)
    with suppress(InvalidRequestError):
        for _ in range(300):
            start = time.thread_time()
            constraint.mask(words)
            assert time.thread_time() - start < 1
            constraint.commit(token)


def test_tokens_without_a_text_are_never_allowed() -> None:
    grammar = text_grammar(TextForm("grammar", 'start: "a" <[1000-1100]>', "guided_grammar"))
    vocabulary = replace(COMPILER.workers.vocabulary, tokens=(*COMPILER.workers.vocabulary.tokens, *[b""] * 200))
    with pytest.raises(InvalidRequestError, match="cannot be completed"):
        try_masks(
            LLMatcher(vocabulary.ll_tokenizer(), grammar.lark.replace("1000", "1024"), log_level=0),
            known_tokens(vocabulary.tokens),
            "guided_grammar",
        )
