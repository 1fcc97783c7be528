"""Set operations on patterns agree with Python's regular expressions."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.chat.json_schema.patterns.algebra import PatternAlgebra
from server.chat.json_schema.patterns.parser import UnreadablePatternError

ATOMS = st.sampled_from(["a", "b", "-", ".", "[ab]", "[^a]", "[a-c0-2]", "\\.", "\\d", "\\W", "\\s", "[^\\w-]", "x"])
QUANTIFIERS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "+?"])
PATTERNS = st.recursive(
    st.builds(str.__add__, ATOMS, QUANTIFIERS) | st.sampled_from(["^", "$", ""]),
    lambda inner: (
        st.lists(inner, min_size=2, max_size=4).map("".join)
        | st.builds("({}|{}){}".format, inner, inner, QUANTIFIERS)
        | st.builds("(?:{})".format, inner)
    ),
    max_leaves=8,
)
TEXTS = st.text("abcx01.- \n_", max_size=6)


def found(pattern: str, text: str) -> bool:
    """Return whether Python finds `pattern` in `text`; its `$` also matches before a last newline, ours does not."""
    return re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None


@settings(max_examples=300, deadline=None)
@given(PATTERNS, PATTERNS, st.lists(TEXTS, max_size=20))
def test_patterns_are_compared_as_python_does(one: str, other: str, texts: list[str]) -> None:
    algebra = PatternAlgebra()
    disjoint = algebra.disjoint(one, other)
    for text in texts:
        assert algebra.matches(one, text) in (found(one, text), None)
        assert not (disjoint and found(one, text) and found(other, text))


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.lists(TEXTS, max_size=20))
def test_the_others_of_a_pattern_are_exactly_the_texts_it_does_not_match(pattern: str, texts: list[str]) -> None:
    with suppress(UnreadablePatternError):
        others = PatternAlgebra().others(pattern)
        for symbols in (r"[\d&&[^\x00-\x7F]]", r"[\w&&[^\d\x00-\x7F]]", r"[\s&&[^\x00-\x7F]]", r"[^\w\s\x00-\x7F]"):
            others = others and others.replace(f"[{symbols}]", "[^\\S\\s]").replace(symbols, "")  # outside ASCII
        for text in texts:
            assert (others is not None and found(others, text)) != found(pattern, text)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("^a", "^b", True),
        ("^a", "b", False),
        ("^[0-9a-f]{8}$", "^[0-9A-F]{8}$", False),
        ("^(a|b)+$", "^c?$", True),
        (r"^\d+$", "^[a-z]+$", True),
        (r"^\w+$", "^é$", False),  # depends on tables of Unicode, so it is not proven
        (r"\bword", "^x$", False),  # not readable
        ("^é$", "^[à-è]$", True),
    ],
)
def test_disjoint_patterns(one: str, other: str, expected: bool) -> None:
    assert PatternAlgebra().disjoint(one, other) is expected


@pytest.mark.parametrize(
    "pattern", ["a{1001}", "(a{500}){500}", "(a|b)*a(a|b){50}", "(" * 100, "[[a]]", "[a&&b]", "(?=a)", r"(a)\1", "a**"]
)
def test_a_pattern_that_is_costly_or_not_readable_is_an_error(pattern: str) -> None:
    algebra = PatternAlgebra()
    with pytest.raises(UnreadablePatternError):
        algebra.others(pattern)
    assert not algebra.disjoint(pattern, "^$")


def test_the_work_on_all_patterns_is_limited() -> None:
    algebra = PatternAlgebra()
    patterns = [f"^(a|b)*{letter}(a|b){{7}}$" for letter in "abcdefghijklmnopqrst"]
    proven = [algebra.disjoint(one, other) for one in patterns for other in patterns]
    assert not all(proven)


def test_texts_can_be_excluded() -> None:
    pattern = PatternAlgebra().without(["CAN", "MEX", "", "a.b", "é", "CANADA"])
    for text in ("CAN", "MEX", "", "a.b", "é", "CANADA"):
        assert not found(pattern, text)
    for text in ("CA", "CANA", "MEXICO", "a-b", "è", "\n", "x" * 50):
        assert found(pattern, text)
