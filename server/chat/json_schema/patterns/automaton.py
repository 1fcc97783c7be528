"""Builds automata for regular expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from server.chat.json_schema.patterns import parser
from server.chat.json_schema.patterns.characters import EVERYTHING, Alphabet, Ranges
from server.chat.json_schema.patterns.parser import UnreadablePatternError

MAX_NODES = 2_000
MAX_STATES = 500

_Nodes = frozenset[int]


@dataclass(slots=True)
class _Nondeterministic:
    """An automaton that may be in several nodes at once. It begins in node 0.

    moves: for each node, the moves that consume a character, as pairs (characters, next node).
    free: for each node, the moves that consume no character, as pairs (anchor or "", next node).
    end: the node reached by texts that match.
    """

    moves: list[list[tuple[Ranges, int]]] = field(default_factory=lambda: [[]])
    free: list[list[tuple[str, int]]] = field(default_factory=lambda: [[]])
    end: int = 0

    @classmethod
    def of(cls, pattern: str) -> _Nondeterministic:
        """Return an automaton for the texts in which `pattern` matches somewhere."""
        automaton = cls()
        automaton.moves[0].append((EVERYTHING, 0))
        automaton.end = automaton._add(parser.parsed(pattern), 0)
        automaton.moves[automaton.end].append((EVERYTHING, automaton.end))
        return automaton

    def closure(self, nodes: Iterable[int], anchors: str) -> _Nodes:
        """Return `nodes` and all nodes reachable from them without consuming a character.

        anchors: the anchors that match at this position of the text, such as "^$".
        """
        reached = set(nodes)
        stack = list(reached)
        while stack:
            for anchor, node in self.free[stack.pop()]:
                if anchor in anchors and node not in reached:
                    reached.add(node)
                    stack.append(node)
        return frozenset(reached)

    def moved(self, nodes: _Nodes, alphabet: Alphabet) -> list[_Nodes]:
        """Return, for each group of `alphabet`, the nodes that its characters reach."""
        reached: list[set[int]] = [set() for _ in alphabet.groups]
        for node in nodes:
            for ranges, following in self.moves[node]:
                for group in alphabet.of_set(ranges):
                    reached[group].add(following)
        return [self.closure(one, "") for one in reached]

    def _add(self, expression: parser.Expression, start: int) -> int:
        """Add the nodes of `expression` after `start` and return the last node."""
        match expression:
            case parser.Characters(ranges):
                end = self._node()
                self.moves[start].append((ranges, end))
            case parser.Anchor(kind):
                end = self._node(start, anchor=kind)
            case parser.Sequence(parts):
                end = self._node(start)
                for part in parts:
                    end = self._add(part, end)
            case parser.Alternatives(parts):
                end = self._node(*[self._add(part, self._node(start)) for part in parts])
            case parser.Repetition(part, low, high):
                end = self._add_repetition(part, low, high, start)
        return end

    def _add_repetition(self, part: parser.Expression, low: int, high: int | None, start: int) -> int:
        node = self._node(start)
        for _ in range(low):
            node = self._add(part, node)
        if high is None:
            loop = self._node(node)
            self.free[self._add(part, loop)].append(("", loop))
            return loop
        ends = [node]
        for _ in range(high - low):
            ends.append(self._add(part, ends[-1]))
        return self._node(*ends)

    def _node(self, *before: int, anchor: str = "") -> int:
        """Add a node and return its number.

        before: nodes from which the new node is reachable without consuming a character.
        anchor: "^" or "$" if it must match on the way, otherwise "".
        """
        if len(self.moves) >= MAX_NODES:
            raise UnreadablePatternError("a pattern is too long")
        self.moves.append([])
        self.free.append([])
        for node in before:
            self.free[node].append((anchor, len(self.moves) - 1))
        return len(self.moves) - 1


@dataclass(slots=True)
class Deterministic:
    """An automaton for several patterns at once. It is in one state at a time.

    moves: for each state, the next state for each group of `alphabet`.
    verdicts: for each state, whether each pattern matches a text that ends there.
    """

    alphabet: Alphabet
    moves: list[list[int]]
    verdicts: list[tuple[bool, ...]]

    @classmethod
    def of(cls, patterns: Sequence[str], spend: Callable[[int], None]) -> Deterministic:
        """Return an automaton for `patterns`.

        spend: called with a number of steps before they are executed.

        Raises UnreadablePatternError if a pattern cannot be read or is too costly.
        """
        automata = [_Nondeterministic.of(pattern) for pattern in patterns]
        alphabet = Alphabet(ranges for one in automata for moves in one.moves for ranges, _ in moves)
        if not alphabet.is_exact:
            raise UnreadablePatternError(r"\d, \w and \s cannot be combined with characters outside ASCII")
        states = [tuple(one.closure([0], "^") for one in automata)]  # state 0 is the first
        known: dict[tuple[_Nodes, ...], int] = {}  # without the first state, in which "^" matches
        result = cls(alphabet, [], [])
        for sets in states:  # grows meanwhile
            spend(sum(map(len, sets)) * len(alphabet.groups))
            anchors = "$" if result.verdicts else "^$"
            pairs = list(zip(automata, sets, strict=True))
            result.verdicts.append(tuple(one.end in one.closure(nodes, anchors) for one, nodes in pairs))
            reached = zip(*(one.moved(nodes, alphabet) for one, nodes in pairs), strict=True)
            result.moves.append([])
            for following in reached:
                if following not in known:
                    known[following] = len(states)
                    states.append(following)
                result.moves[-1].append(known[following])
            if len(states) > MAX_STATES:
                raise UnreadablePatternError("the patterns have too many states")
        return result

    def state_after(self, text: str) -> int | None:
        """Return the state after `text`.

        Returns None if the state depends on the Unicode class of a character.
        """
        state = 0
        for character in text:
            if (group := self.alphabet.group(character)) is None:
                return None
            state = self.moves[state][group]
        return state
