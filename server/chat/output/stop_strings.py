"""Cuts off text at stop strings, which may extend over several pieces of text."""

from __future__ import annotations


class StopStrings:
    """Passes text on up to the first of `stops`, holding back text that may be the start of one.

    `found` is set once a stop string is complete.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Return the text that is certain; nothing once a stop string has been found."""
        if not self._stops or self.found:
            return "" if self.found else text
        text = self._held + text
        # The stop string that ends first wins, so that the result does not depend on how the text is divided.
        matches = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if matches:
            self.found, self._held = True, ""
            return text[: min(matches)[1]]
        certain = self._certain_length(text)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """Return the text held back, because nothing follows."""
        held, self._held = self._held, ""
        return held

    def _certain_length(self, text: str) -> int:
        """Return the length of `text` up to where a stop string may have started."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stops):
                return start
        return len(text)
