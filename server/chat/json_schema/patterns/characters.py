r"""Sets of characters in regular expressions.

A set is a tuple of inclusive ranges of code points, sorted and disjoint.

`\d`, `\w` and `\s` contain characters of many scripts. In patterns with these classes, four symbols stand for all
characters outside ASCII. The symbols are numbers above the last code point. A pattern with these classes cannot name
single characters outside ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Ranges = tuple[tuple[int, int], ...]

ASCII_END = 0x7F
LAST = 0x10FFFF
DIGIT, WORD, SPACE, OTHER = range(LAST + 1, LAST + 5)

_SYMBOLS = {
    DIGIT: r"[\d&&[^\x00-\x7F]]",
    WORD: r"[\w&&[^\d\x00-\x7F]]",
    SPACE: r"[\s&&[^\x00-\x7F]]",
    OTHER: r"[^\w\s\x00-\x7F]",
}
EVERYTHING: Ranges = ((0, OTHER),)
CLASSES: dict[str, Ranges] = {
    "d": ((ord("0"), ord("9")), (DIGIT, DIGIT)),
    "w": ((ord("0"), ord("9")), (ord("A"), ord("Z")), (ord("_"), ord("_")), (ord("a"), ord("z")), (DIGIT, WORD)),
    "s": ((9, 13), (ord(" "), ord(" ")), (SPACE, SPACE)),
}


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the set of the characters in any of `ranges`."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def inverse(ranges: Ranges) -> Ranges:
    """Return the set of all characters that are not in `ranges`."""
    lows = [0, *(high + 1 for _, high in ranges)]
    highs = [*(low - 1 for low, _ in ranges), OTHER]
    return tuple((low, high) for low, high in zip(lows, highs, strict=True) if low <= high)


def one_of(characters: str) -> Ranges:
    """Return the set of the characters in a string."""
    return union((ord(one), ord(one)) for one in characters)


class Alphabet:
    """All characters, divided into groups.

    sets: sets of characters. Each is a union of groups.
    groups: the characters of each group.

    Example: the sets [a-f] and [d-z] require the groups [a-c], [d-f], [g-z], and one of all other characters.
    """

    def __init__(self, sets: Iterable[Ranges]) -> None:
        known = list(dict.fromkeys(sets))
        cuts = sorted({0, *(cut for one in known for low, high in one for cut in (low, high + 1))} - {OTHER + 1})
        members: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for low, following in zip(cuts, [*cuts[1:], OTHER + 1], strict=True):
            inside = tuple(i for i, one in enumerate(known) if any(a <= low <= b for a, b in one))
            members.setdefault(inside, []).append((low, following - 1))
        self.groups: list[Ranges] = [union(ranges) for ranges in members.values()]
        self._of_set = {
            one: [group for group, inside in enumerate(members) if i in inside] for i, one in enumerate(known)
        }
        self._has_classes = any(cut >= DIGIT for cut in cuts)
        self.is_exact = not (self._has_classes and any(ASCII_END < cut <= LAST for cut in cuts))

    def of_set(self, ranges: Ranges) -> Sequence[int]:
        """Return the indices of the groups that make up `ranges`.

        `ranges` must be one of the alphabet's sets.
        """
        return self._of_set[ranges]

    def group(self, character: str) -> int | None:
        """Return the index of the group of `character`.

        Returns None if the group depends on the Unicode class of the character.
        """
        code = ord(character)
        if code > ASCII_END and self._has_classes:
            return None
        return next(i for i, ranges in enumerate(self.groups) if any(low <= code <= high for low, high in ranges))

    def pattern(self, groups: Iterable[int]) -> str:
        """Return a pattern that matches one character from any of `groups`."""
        ranges = union(one for group in groups for one in self.groups[group])
        if ranges == EVERYTHING:
            return "(?s:.)"
        last = ASCII_END if self._has_classes else LAST
        plain = "".join(
            _escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}"
            for low, high in ((low, min(high, last)) for low, high in ranges if low <= last)
        )
        symbols = ""
        if self._has_classes:
            symbols = "".join(
                text for symbol, text in _SYMBOLS.items() if any(low <= symbol <= high for low, high in ranges)
            )
        return f"[{plain}{symbols}]"


def _escaped(code: int) -> str:
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02X}" if code <= ASCII_END else f"\\U{code:08X}"
