"""Tokens are decoded without splitting characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.chat.output.detokenizer import Detokenizer
from server.chat.tokenizer import Tokenizer
from server.export.tokenizer import BUILT_IN_TOKENIZER

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)


def pieces_of(tokens: list[int], *visible: str) -> list[str]:
    detokenizer = Detokenizer(TOKENIZER, frozenset(visible))
    return [*(detokenizer.feed(token) for token in tokens), detokenizer.finish()]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_pieces_join_to_the_text_without_splitting_a_character(text: str) -> None:
    pieces = pieces_of(TOKENIZER.encode_literally(text))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_is_returned_with_its_last_token() -> None:
    tokens = TOKENIZER.encode("\N{GRINNING FACE}")
    assert len(tokens) == 4
    assert pieces_of(tokens) == ["", "", "", "\N{GRINNING FACE}", ""]


def test_a_character_that_is_never_completed_is_replaced() -> None:
    assert "".join(pieces_of(TOKENIZER.encode("\N{GRINNING FACE}")[:2])) == "\ufffd"


def test_only_visible_special_tokens_have_text() -> None:
    tokens = TOKENIZER.encode("a<|im_start|>b<|tool_call_start|>c")
    assert "".join(pieces_of(tokens)) == "abc"
    assert "".join(pieces_of(tokens, "<|tool_call_start|>")) == "ab<|tool_call_start|>c"


def test_ids_beyond_the_vocabulary_are_unknown() -> None:
    assert TOKENIZER.unknown_ids(1030).tolist() == [1024, 1025, 1026, 1027, 1028, 1029]
    assert TOKENIZER.token_bytes(1029) == b""
