"""Finds the markers around tool calls in text that arrives in pieces, and removes markers from content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from server.chat.markers import CALL_END, CALL_START

_MARKERS = (CALL_START, CALL_END)
_MARKER = re.compile(f"({'|'.join(map(re.escape, _MARKERS))})")
_LONGEST = max(map(len, _MARKERS))


class MarkerSplitter:
    """Splits text at markers, which may extend over several pieces."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """Return text and markers, alternating; holds back an end of `text` that may be the start of a marker."""
        *certain, last = _MARKER.split(self._held + text)
        # A marker contains only one "<".
        start = last.rfind("<", -_LONGEST)
        if start < 0 or not _is_marker_prefix(last[start:]):
            start = len(last)
        self._held = last[start:]
        return [*certain, last[:start]]

    def finish(self) -> str:
        """Return the text held back, because nothing follows."""
        held, self._held = self._held, ""
        return held


@dataclass(slots=True)
class _PartialMarker:
    """A proper prefix of a marker: `sent` was returned as content already, `held` is held back."""

    sent: str
    held: str


class MarkerFilter:
    """Removes markers from content, including those formed when text between two pieces of content is removed.

    Removing the inner marker from `<|tool_<|tool_call_end|>call_end|>` forms another one. The filter therefore keeps a
    stack of partial markers: the text that follows may complete the last one, whose removal exposes the one below.
    """

    def __init__(self) -> None:
        self._partial: list[_PartialMarker] = []

    def feed(self, text: str) -> str:
        """Return the content up to where a marker may have started."""
        first, *others = text.split("<")
        certain = [self._continue(first)]
        for other in others:
            self._partial.append(_PartialMarker("", "<"))
            certain.append(self._continue(other))
        return "".join(certain)

    def flush(self) -> str:
        """Return the content held back, because a call or the end of the answer follows.

        If later content completes a marker whose prefix was returned here, only the rest of the marker is removed.
        """
        held: list[str] = []
        for partial in takewhile(lambda partial: partial.held, reversed(self._partial)):
            held.append(partial.held)
            partial.sent, partial.held = partial.sent + partial.held, ""
        return "".join(reversed(held))

    def _continue(self, text: str) -> str:
        """Filter text that contains no further "<"."""
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
