"""The markers around tool calls: found in text that comes in pieces, and kept out of the text that goes out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from server.chat.markers import CALL_END, CALL_START

_MARKERS = (CALL_START, CALL_END)
_MARKER = re.compile(f"({'|'.join(map(re.escape, _MARKERS))})")
_LONGEST = max(map(len, _MARKERS))


class MarkerSplitter:
    """Cuts text at the markers, wherever its pieces were cut."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The text and the markers that are certain by now, one by one; some may be empty."""
        *certain, last = _MARKER.split(self._held + text)
        # A marker has no second "<".
        start = last.rfind("<", -_LONGEST)
        if start < 0 or not _may_become_a_marker(last[start:]):
            start = len(last)
        self._held = last[start:]
        return [*certain, last[:start]]

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held


@dataclass(slots=True)
class _Beginning:
    """Of a marker: what has been passed on of it, and what is held back."""

    passed: str
    held: str


class MarkerFilter:
    """Passes text on without markers, also without those that come about where something was left out.

    A marker's beginning waits for what follows it, and below it those that it may yet join.
    """

    def __init__(self) -> None:
        self._beginnings: list[_Beginning] = []

    def feed(self, text: str) -> str:
        """The text that is certain by now."""
        first, *others = text.split("<")
        certain = [self._continue(first)]
        for other in others:
            self._beginnings.append(_Beginning("", "<"))
            certain.append(self._continue(other))
        return "".join(certain)

    def flush(self) -> str:
        """What is held back. Should it be a marker's beginning after all, then the marker's rest is left out."""
        held: list[str] = []
        for beginning in takewhile(lambda beginning: beginning.held, reversed(self._beginnings)):
            held.append(beginning.held)
            beginning.passed, beginning.held = beginning.passed + beginning.held, ""
        return "".join(reversed(held))

    def _continue(self, text: str) -> str:
        """The same for a text in which no marker begins."""
        at = 0
        while self._beginnings and at < len(text):
            last = self._beginnings[-1]
            begun = last.passed + last.held
            read = begun + text[at : at + _LONGEST]
            if marker := next(filter(read.startswith, _MARKERS), None):
                at += len(marker) - len(begun)
                last.held = ""
                if not last.passed:
                    self._beginnings.pop()
            elif _may_become_a_marker(read):
                last.held += text[at:]
                return ""
            else:
                held = self.flush()
                self._beginnings.clear()
                return held + text[at:]
        return text[at:]


def _may_become_a_marker(text: str) -> bool:
    return any(marker.startswith(text) for marker in _MARKERS)
