"""Thoughts and answer are divided, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.output.reasoning import ReasoningSplitter


def split(text: str, thinking: bool, sizes: list[int]) -> tuple[str, str]:
    splitter = ReasoningSplitter(thinking)
    pieces = []
    while text:
        size = sizes.pop() if sizes else len(text)
        pieces.append(splitter.feed(text[:size]))
        text = text[size:]
    pieces.append(splitter.finish())
    return "".join(piece.reasoning for piece in pieces), "".join(piece.content for piece in pieces)


@pytest.mark.parametrize(
    ("text", "thinking", "reasoning", "content"),
    [
        ("<think>\nhm \n</think>\n\nYes.", False, "hm", "Yes."),
        ("\n<think>hm</think>Yes. ", False, "hm", "Yes. "),
        ("hm\n</think>Yes.", True, "hm", "Yes."),
        ("Yes.", False, "", "Yes."),
        (" Yes. <think>no</think>", False, "", " Yes. <think>no</think>"),
        ("<think>a </thin b</think>c</think>d", False, "a </thin b", "c</think>d"),
        ("<think>never closed \n", False, "never closed", ""),
        ("never closed </thin", True, "never closed </thin", ""),
        ("<thin", False, "", "<thin"),
        ("<think>\n\n</think>\n\nYes.", False, "", "Yes."),
        ("", True, "", ""),
    ],
)
def test_text_is_divided_into_thoughts_and_answer(text: str, thinking: bool, reasoning: str, content: str) -> None:
    assert split(text, thinking, []) == (reasoning, content)
    assert split(text, thinking, [1] * len(text)) == (reasoning, content)


pieces = st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", "a", " ", "\n"])).map("".join)


@given(pieces, st.booleans(), st.lists(st.integers(1, 5)))
def test_the_result_does_not_depend_on_the_pieces(text: str, thinking: bool, sizes: list[int]) -> None:
    assert split(text, thinking, sizes) == split(text, thinking, [])
