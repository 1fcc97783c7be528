"""A grammar applies to the answer after the thoughts, not to the thoughts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from server.chat.constrained.after_thinking import AfterThinking, ThoughtMarkers
from server.chat.constrained.grammar import CallMode, Grammar, call_grammar, text_grammar
from server.chat.thought_tracker import ThoughtTracker
from server.chat.types import TextForm, Thoughts
from tests.grammars import COMPILER, END, TOKENIZER, accepts, allowed, block, compiled, required, tool


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


def test_a_spent_budget_forces_the_end_and_then_the_answer() -> None:
    budgeted = COMPILER.constraint(compiled(required({})), Thoughts.OPEN, 3, forbids_calls=False)
    assert budgeted is not None
    for token in TOKENIZER.encode("one, two, three")[:3]:
        assert budgeted.forced_tokens() == []
        assert allowed(budgeted)[token]
        budgeted.commit(token)
    end = TOKENIZER.encode("</think>")
    assert budgeted.forced_tokens() == end
    for token in end:
        assert np.flatnonzero(allowed(budgeted)).tolist() == [token]
        budgeted.commit(token)
    assert np.flatnonzero(allowed(budgeted)).tolist() == [TOKENIZER.special["<|tool_call_start|>"]]


def test_a_free_answer_is_free_after_its_budgeted_thoughts() -> None:
    for thoughts in Thoughts:
        free = COMPILER.constraint(None, thoughts, 0, forbids_calls=False)
        assert free is not None
        if thoughts is not Thoughts.OPEN:
            assert allowed(free).all()
            for token in TOKENIZER.encode("<think>"):
                free.commit(token)
        for token in TOKENIZER.encode("</think>"):
            assert free.forced_tokens()[0] == token
            free.commit(token)
        assert allowed(free).all()
        assert free.forced_tokens() == []


def regex(pattern: str) -> Grammar:
    return text_grammar(TextForm("regex", pattern, "guided_regex"))


def test_an_answer_may_begin_like_a_marker_that_is_a_special_token() -> None:
    grammar = compiled(regex("<a>"))
    markers = ThoughtMarkers(TOKENIZER, {b"": (END,)}, TOKENIZER.encode("</think>"))
    constraint = AfterThinking(grammar.start, markers, grammar.end_tokens, is_open=False, budget=None)
    for token in [*TOKENIZER.encode("<a>"), END]:
        assert allowed(constraint)[token]
        constraint.commit(token)


def test_an_answer_may_begin_like_a_marker_of_several_tokens() -> None:
    grammar = regex("<a>|<think|<th")
    for text in ("<a>", "<think", "<th", "<think>Hm.</think><a>"):
        assert accepts(grammar, text, Thoughts.POSSIBLE), text
    for text in ("<b>", "<thin", "<think>Hm.</think><b>", "<think><a>"):
        assert not accepts(grammar, text, Thoughts.POSSIBLE), text


def test_space_before_the_answer_belongs_to_its_form() -> None:
    grammar = regex(" {1,2}a")
    for text in (" a", "  a", " <think>Hm.</think> a", "<think>Hm.</think>  a"):
        assert accepts(grammar, text, Thoughts.POSSIBLE), text
    for text in ("a", "   a", " <think>Hm.</think>a", " <think>Hm.</think>   a"):
        assert not accepts(grammar, text, Thoughts.POSSIBLE), text


pieces = st.lists(st.sampled_from(["<think>", "</think>", "<", "</", "thi", "nk>", "ab", " "])).map("".join)


@settings(max_examples=50)
@given(pieces, st.booleans(), st.integers(0, 9))
def test_thoughts_never_exceed_their_budget(text: str, is_open: bool, budget: int) -> None:
    thoughts = Thoughts.OPEN if is_open else Thoughts.POSSIBLE
    constraint, tracker = COMPILER.constraint(None, thoughts, budget, forbids_calls=False), ThoughtTracker(is_open)
    assert constraint is not None
    for token in TOKENIZER.encode(text):
        possible = allowed(constraint)
        chosen = token if possible[token] else int(np.flatnonzero(possible)[0])
        constraint.commit(chosen)
        tracker.commit(TOKENIZER.token_bytes(chosen))
        assert tracker.tokens <= budget
