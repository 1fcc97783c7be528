"""A grammar applies to the answer after the thoughts, not to the thoughts."""

from __future__ import annotations

from server.chat.constrained.grammar import CallMode, call_grammar
from server.chat.types import Thoughts
from tests.grammars import (
    accepts,
    block,
    required,
    tool,
)


def test_the_grammar_applies_after_open_thoughts() -> None:
    grammar = required({})
    assert accepts(grammar, "Let me think: <|tool_call_start|>[x]</think>" + block("f()"), Thoughts.OPEN)
    assert not accepts(grammar, "no call</think>none", Thoughts.OPEN)
    assert not accepts(grammar, "it just ends", Thoughts.OPEN)
    auto = call_grammar([tool({})], CallMode.AUTO, parallel=True)
    assert accepts(auto, f"{block('nothing')}</think>Hello", Thoughts.OPEN)
    assert not accepts(auto, f"hm</think>{block('nothing')}", Thoughts.OPEN)


def test_a_model_that_may_think_first_thinks_or_answers() -> None:
    enforced, auto = required({}), call_grammar([tool({})], CallMode.AUTO, parallel=True)
    for grammar in (enforced, auto):
        assert accepts(grammar, "<think>Hm.</think>" + block("f()"), Thoughts.POSSIBLE)
        assert accepts(grammar, block("f()"), Thoughts.POSSIBLE)
        assert not accepts(grammar, "<think>Hm.</think>" + block("g()"), Thoughts.POSSIBLE)
        assert not accepts(grammar, block("g()"), Thoughts.POSSIBLE)
    for text in ("", "text", "<thin", "<thing>", "<think>Hm.", "<think>Hm.</think>", "<think>Hm.</think>text"):
        assert not accepts(enforced, text, Thoughts.POSSIBLE)
        assert accepts(auto, text, Thoughts.POSSIBLE)
