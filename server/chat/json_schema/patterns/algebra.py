"""Compares the texts that patterns match, and writes negated patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from server.chat.json_schema.patterns.automaton import Deterministic
from server.chat.json_schema.patterns.parser import UnreadablePatternError

MAX_STEPS = 500_000  # of all operations of one PatternAlgebra, each about 0.2 microseconds
MAX_CHARACTERS = 20_000  # of a written pattern

_EMPTY = ""


class PatternAlgebra:
    """Operations on patterns, with a limit on their total work.

    A pattern stands for all texts in which it matches somewhere.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._automata: dict[tuple[str, ...], Deterministic | None] = {}

    def disjoint(self, one: str, other: str) -> bool:
        """Return whether it is proven that no text matches both patterns."""
        automaton = self._automaton((one, other))
        return automaton is not None and (True, True) not in automaton.verdicts

    def matches(self, pattern: str, text: str) -> bool | None:
        """Return whether `pattern` matches `text`, or None if unknown."""
        automaton = self._automaton((pattern,))
        state = None if automaton is None else automaton.state_after(text)
        return None if automaton is None or state is None else automaton.verdicts[state][0]

    def others(self, pattern: str) -> str | None:
        """Return a pattern that matches exactly the texts that `pattern` does not match.

        Returns None if `pattern` matches every text.
        Raises UnreadablePatternError if `pattern` cannot be read or is too costly.
        """
        automaton = self._automaton((pattern,))
        if automaton is None:
            raise UnreadablePatternError("the pattern cannot be read")
        accepted = {state for state, (matches,) in enumerate(automaton.verdicts) if not matches}
        return _Writer(automaton, accepted, self._spend).result() if accepted else None

    def without(self, texts: Iterable[str]) -> str:
        """Return a pattern that matches any text except `texts`.

        Raises UnreadablePatternError if this takes too much work.
        """
        choice = "|".join(re.sub(r"([^0-9A-Za-z])", _escaped, text) for text in texts)
        pattern = self.others(f"^(?:{choice})$")
        assert pattern is not None  # `texts` is finite
        return pattern

    def _automaton(self, patterns: tuple[str, ...]) -> Deterministic | None:
        """Return the automaton for `patterns`, or None if it cannot be built."""
        if patterns not in self._automata:
            try:
                self._automata[patterns] = Deterministic.of(patterns, self._spend)
            except UnreadablePatternError:
                self._automata[patterns] = None
        return self._automata[patterns]

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise UnreadablePatternError("the patterns take too much work")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return f"\\x{ord(character):02x}" if ord(character) < 128 else character


class _Writer:
    """A converter from an automaton to a pattern that matches the same texts.

    Adds a start state (-2) and an end state (-1), then removes all other states one by one. Paths through a removed
    state become edges with patterns.

    accepted: the states in which a text may end.
    """

    def __init__(self, automaton: Deterministic, accepted: set[int], spend: Callable[[int], None]) -> None:
        self._spend = spend
        classes = _merged(automaton, accepted, spend)
        self._patterns: dict[int, dict[int, str]] = {}
        self._before: dict[int, set[int]] = {}
        for state, merged in enumerate(classes):
            if merged in self._patterns:
                continue
            groups: dict[int, list[int]] = {}
            for group, following in enumerate(automaton.moves[state]):
                groups.setdefault(classes[following], []).append(group)
            self._patterns[merged] = {}
            for following, members in groups.items():
                self._add(merged, following, automaton.alphabet.pattern(members))
            if state in accepted:
                self._add(merged, -1, _EMPTY)

    def result(self) -> str:
        self._patterns[-2] = {}
        self._add(-2, 0, _EMPTY)
        for state in sorted((one for one in self._patterns if one >= 0), reverse=True):  # the most distant ones first
            self._remove(state)
        return f"^(?:{self._patterns[-2][-1]})$"

    def _remove(self, state: int) -> None:
        followers = self._patterns.pop(state)
        before = self._before.pop(state, set()) - {state}
        loop = followers.pop(state, None)
        repeated = "" if loop is None else f"(?:{loop})*"
        for one in before:
            first = self._patterns[one].pop(state)
            for following, last in followers.items():
                self._add(one, following, f"{_group(first)}{repeated}{_group(last)}")
        for following in followers:
            self._before[following].discard(state)

    def _add(self, state: int, following: int, pattern: str) -> None:
        """Add a pattern for the texts that lead from `state` to `following`."""
        self._spend(1 + len(pattern) // 16)
        known = self._patterns[state].get(following)
        self._patterns[state][following] = pattern if known is None else f"{known}|{pattern}"
        self._before.setdefault(following, set()).add(state)
        if len(self._patterns[state][following]) > MAX_CHARACTERS:
            raise UnreadablePatternError("the negated pattern is too long")


def _group(pattern: str) -> str:
    return f"(?:{pattern})" if "|" in pattern else pattern


def _merged(automaton: Deterministic, accepted: set[int], spend: Callable[[int], None]) -> list[int]:
    """Return a number for each state, equal for states that accept the same texts.

    State 0 gets number 0.
    """
    classes = [int(state not in accepted) for state in range(len(automaton.moves))]
    while True:
        spend(len(classes) * (1 + len(automaton.alphabet.groups)))
        numbers: dict[tuple[int, ...], int] = {}
        refined = [
            numbers.setdefault((own, *(classes[following] for following in moves)), len(numbers))
            for own, moves in zip(classes, automaton.moves, strict=True)
        ]
        if len(numbers) == len(set(classes)):
            return refined
        classes = refined
