"""Text ends before a stop string, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.output.stop_strings import StopStrings


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
def test_text_ends_before_a_stop_string(text: str, stops: tuple[str, ...], kept: str) -> None:
    assert cut(text, stops, [1] * len(text)) == (kept, kept != text)


@given(st.text("ab"), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4), st.lists(st.integers(1, 4)))
def test_stop_strings_are_found_in_pieces_of_any_size(text: str, stops: list[str], sizes: list[int]) -> None:
    assert cut(text, tuple(stops), sizes) == cut(text, tuple(stops), [])


@given(st.text("ab"), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_text_before_a_stop_string_contains_none(text: str, stops: list[str]) -> None:
    kept, found = cut(text, tuple(stops), [1] * len(text))
    assert text.startswith(kept)
    assert found == any(stop in text for stop in stops)
    assert not any(stop in kept for stop in stops)
