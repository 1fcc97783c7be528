"""Stop strings, found wherever the pieces of text are cut."""

from __future__ import annotations


class StopStrings:
    """Passes text on up to the first of `stops`; holds back what may be the beginning of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """The text that is certain by now. Once `found` is set there is no more."""
        if not self._stops or self.found:
            return "" if self.found else text
        text = self._held + text
        # The one that is complete first: the same however the text is cut.
        matches = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if matches:
            self.found, self._held = True, ""
            return text[: min(matches)[1]]
        certain = self._certain_length(text)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _certain_length(self, text: str) -> int:
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stops):
                return start
        return len(text)
