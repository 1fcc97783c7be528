"""Collects what of a schema is not enforced, in a bounded form that is safe in headers and logs."""

from __future__ import annotations

from collections.abc import Iterable

NAMED = 8  # messages; the others are only counted
START, END = 100, 150  # characters that are kept of a long message


class Unenforced:
    """Messages about keywords that are not enforced. Only the first few are kept, and these are cut to size."""

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
        """Add the messages of another collection, each after `prefix`."""
        for message in messages._named:
            self.add(f"{prefix}{message}")
        self._more += messages._more

    @property
    def messages(self) -> tuple[str, ...]:
        """The messages, and how many more there are."""
        return (*self._named, f"and {self._more} more") if self._more else tuple(self._named)


def _short(message: str) -> str:
    """Return a message of at most START + END characters, all of them printable."""
    if len(message) > START + END:
        message = f"{message[:START]}...{message[-END:]}"
    return "".join(_printable(message))


def _printable(text: str) -> Iterable[str]:
    return (one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
