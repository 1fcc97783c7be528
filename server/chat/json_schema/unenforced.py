"""Collects messages about schema keywords that are not enforced."""

from __future__ import annotations

from collections.abc import Iterable

NAMED = 8  # messages that are kept; further messages are only counted
START, END = 100, 150  # characters that are kept at the start and at the end of a long message


class Unenforced:
    """Messages about keywords that are not enforced.

    Keeps the first few, shortened if long, and escaped for headers and logs.
    """

    def __init__(self) -> None:
        self._named: list[str] = []
        self._more = 0

    def add(self, message: str) -> None:
        """Add one message."""
        if len(self._named) < NAMED:
            self._named.append(_short(message))
        else:
            self._more += 1

    def extend(self, messages: Unenforced, prefix: str) -> None:
        """Add the messages of another collection, with `prefix` in front of each."""
        for message in messages._named:
            self.add(f"{prefix}{message}")
        self._more += messages._more

    @property
    def messages(self) -> tuple[str, ...]:
        """The kept messages, then "and 3 more" if three others were not kept."""
        return (*self._named, f"and {self._more} more") if self._more else tuple(self._named)


def _short(message: str) -> str:
    """Return `message`, printable, and without its middle if it is long."""
    if len(message) > START + END:
        message = f"{message[:START]}...{message[-END:]}"
    return "".join(_printable(message))


def _printable(text: str) -> Iterable[str]:
    return (one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
