"""A thinking model's text cut in two: what it thinks, up to `</think>`, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

from server.chat.markers import THINK_END, THINK_START


@dataclass(frozen=True, slots=True)
class Split:
    """A piece of each; either may be empty."""

    reasoning: str = ""
    content: str = ""


class ReasoningSplitter:
    """Cuts the text of one answer as it comes. `thinking` says that the prompt has opened the thoughts already.

    Thoughts lose the whitespace at both ends, the answer that between it and them. What does not begin with
    `<think>` is all answer. `held` is how many characters are held back.
    """

    def __init__(self, thinking: bool) -> None:
        self._text = ""
        self._inside = thinking
        self._begun = thinking  # whether it is clear by now if there are thoughts
        self._at_start = True  # of the thoughts or of the answer after them: whitespace is dropped

    @property
    def held(self) -> int:
        return len(self._text)

    def feed(self, text: str) -> Split:
        """What is certain by now."""
        self._text += text
        if not self._begun and not self._begin():
            return Split()
        reasoning = self._read_thoughts() if self._inside else ""
        return Split(reasoning, "" if self._inside else self._read_answer())

    def finish(self) -> Split:
        """What was held back, now that nothing follows; thoughts that were not closed stay thoughts."""
        text, self._text = self._text, ""
        return Split(reasoning=text.rstrip()) if self._inside else Split(content=text)

    def _begin(self) -> bool:
        start = self._text.lstrip()
        if start.startswith(THINK_START):
            self._text, self._inside = start[len(THINK_START) :], True
        elif THINK_START.startswith(start):
            return False
        else:
            self._at_start = False
        self._begun = True
        return True

    def _read_thoughts(self) -> str:
        if self._at_start:
            self._text = self._text.lstrip()
            self._at_start = not self._text
        thoughts, end, answer = self._text.partition(THINK_END)
        if end:
            self._text, self._inside, self._at_start = answer, False, True
            return thoughts.rstrip()
        certain = len(thoughts) - _beginning_of(THINK_END, thoughts)
        certain = len(thoughts[:certain].rstrip())
        self._text = thoughts[certain:]
        return thoughts[:certain]

    def _read_answer(self) -> str:
        text, self._text = self._text, ""
        if self._at_start:
            text = text.lstrip()
            self._at_start = not text
        return text


def _beginning_of(marker: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if marker.startswith(text[-n:])), 0)
