"""Tokens back to text, and stop strings in it, wherever the pieces are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.output.detokenizer import Detokenizer
from server.chat.output.stop_strings import StopStrings
from server.chat.tokenizer import Tokenizer
from server.export.tokenizer import BUILT_IN_TOKENIZER

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)


def pieces_of(tokens: list[int], *visible: str) -> list[str]:
    detokenizer = Detokenizer(TOKENIZER, frozenset(visible))
    return [*(detokenizer.feed(token) for token in tokens), detokenizer.finish()]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_join_to_the_text_and_none_holds_half_a_character(text: str) -> None:
    pieces = pieces_of(TOKENIZER.encode_literally(text))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_comes_with_its_last() -> None:
    tokens = TOKENIZER.encode("\N{GRINNING FACE}")
    assert len(tokens) == 4
    assert pieces_of(tokens) == ["", "", "", "\N{GRINNING FACE}", ""]


def test_a_character_that_is_never_completed_is_replaced() -> None:
    assert "".join(pieces_of(TOKENIZER.encode("\N{GRINNING FACE}")[:2])) == "\ufffd"


def test_special_tokens_have_no_text_unless_they_are_wanted() -> None:
    tokens = TOKENIZER.encode("a<|im_start|>b<|tool_call_start|>c")
    assert "".join(pieces_of(tokens)) == "abc"
    assert "".join(pieces_of(tokens, "<|tool_call_start|>")) == "ab<|tool_call_start|>c"


def test_ids_beyond_the_vocabulary_are_unknown() -> None:
    assert TOKENIZER.unknown_ids(1030).tolist() == [1024, 1025, 1026, 1027, 1028, 1029]
    assert TOKENIZER.token_bytes(1029) == b""


def cut(text: str, stops: tuple[str, ...], sizes: list[int]) -> tuple[str, bool]:
    finder, found = StopStrings(stops), []
    while text:
        size = sizes.pop() if sizes else len(text)
        found.append(finder.feed(text[:size]))
        text = text[size:]
    if not finder.found:
        found.append(finder.finish())
    return "".join(found), finder.found


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [
        ("one two", ("two",), "one "),
        ("one two", ("none",), "one two"),
        ("aab", ("ab",), "a"),
        ("abcX", ("abcX", "bc"), "a"),
        ("end", ("end",), ""),
        ("almost en", ("end",), "almost en"),
    ],
)
def test_a_stop_string_ends_the_text_before_it(text: str, stops: tuple[str, ...], kept: str) -> None:
    assert cut(text, stops, [1] * len(text)) == (kept, kept != text)


@given(st.text("ab"), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4), st.lists(st.integers(1, 4)))
def test_stop_strings_are_found_however_the_text_is_cut(text: str, stops: list[str], sizes: list[int]) -> None:
    assert cut(text, tuple(stops), sizes) == cut(text, tuple(stops), [])


@given(st.text("ab"), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_kept_text_holds_no_stop_string(text: str, stops: list[str]) -> None:
    kept, found = cut(text, tuple(stops), [1] * len(text))
    assert text.startswith(kept)
    assert found == any(stop in text for stop in stops)
    assert not any(stop in kept for stop in stops)
