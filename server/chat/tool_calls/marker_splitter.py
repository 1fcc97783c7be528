"""Finds and removes call markers in text that arrives in pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from server.chat.markers import CALL_END, CALL_START

_MARKERS = (CALL_START, CALL_END)
_MARKER = re.compile(f"({'|'.join(map(re.escape, _MARKERS))})")
_LONGEST = max(map(len, _MARKERS))


class MarkerSplitter:
    """A splitter that divides text at markers, which may span several pieces."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """Return alternating texts and markers. The first and last elements are texts.

        Holds back the possible start of a marker.
        """
        *certain, last = _MARKER.split(self._held + text)
        # A marker contains only one "<", at its start.
        start = last.rfind("<", -_LONGEST)
        if start < 0 or not _is_marker_prefix(last[start:]):
            start = len(last)
        self._held = last[start:]
        return [*certain, last[:start]]

    def finish(self) -> str:
        """End the answer and return the text that was held back."""
        held, self._held = self._held, ""
        return held


@dataclass(slots=True)
class _PartialMarker:
    """The start of a marker, found in the content.

    sent: the part that was already returned as content.
    held: the part that is held back.
    """

    sent: str
    held: str


class MarkerFilter:
    """A filter that removes markers from content.

    Removing a marker can form a new one: nothing is left of `<|tool_<|tool_call_end|>call_end|>`. Incomplete markers
    are therefore kept on a stack.
    """

    def __init__(self) -> None:
        self._partial: list[_PartialMarker] = []

    def feed(self, text: str) -> str:
        """Add text and return the content that cannot be part of a marker."""
        first, *others = text.split("<")
        certain = [self._continue(first)]
        for other in others:
            self._partial.append(_PartialMarker("", "<"))
            certain.append(self._continue(other))
        return "".join(certain)

    def flush(self) -> str:
        """Return the content that is held back, because a call or the end follows.

        If this content later proves to be the start of a marker, only the rest of that marker is removed.
        """
        held: list[str] = []
        for partial in takewhile(lambda partial: partial.held, reversed(self._partial)):
            held.append(partial.held)
            partial.sent, partial.held = partial.sent + partial.held, ""
        return "".join(reversed(held))

    def _continue(self, text: str) -> str:
        """Filter text without "<", which may continue the marker on top of the stack."""
        at = 0
        while self._partial and at < len(text):
            last = self._partial[-1]
            begun = last.sent + last.held
            candidate = begun + text[at : at + _LONGEST]
            if marker := next(filter(candidate.startswith, _MARKERS), None):
                at += len(marker) - len(begun)
                last.held = ""
                if not last.sent:
                    self._partial.pop()
            elif _is_marker_prefix(candidate):
                last.held += text[at:]
                return ""
            else:
                held = self.flush()
                self._partial.clear()
                return held + text[at:]
        return text[at:]


def _is_marker_prefix(text: str) -> bool:
    return any(marker.startswith(text) for marker in _MARKERS)
