"""Cuts off text at stop strings, which may span several pieces of text."""

from __future__ import annotations


class StopStrings:
    """A filter that passes text on up to the first stop string.

    match: the stop string found; None until then.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.match: str | None = None

    @property
    def found(self) -> bool:
        """Whether a complete stop string has been found."""
        return self.match is not None

    def feed(self, text: str) -> str:
        """Add text and return the text that cannot be part of a stop string.

        Returns "" after a stop string.
        """
        if not self._stops or self.found:
            return "" if self.found else text
        text = self._held + text
        # The stop string that ends first wins, so that the result does not depend on how the text is split.
        matches = [(place + len(stop), place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if matches:
            _, place, self.match = min(matches)
            self._held = ""
            return text[:place]
        certain = self._certain_length(text)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """End the answer and return the text that was held back."""
        held, self._held = self._held, ""
        return held

    def _certain_length(self, text: str) -> int:
        """Return how many leading characters cannot be part of a stop string."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stops):
                return start
        return len(text)
