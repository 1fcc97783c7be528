"""Splits the text of a thinking model into its thoughts and its answer."""

from __future__ import annotations

from dataclasses import dataclass

from server.chat.markers import THINK_END, THINK_START, marker_prefix_length


@dataclass(frozen=True, slots=True)
class Split:
    """A piece of the thoughts and a piece of the answer. Either may be empty."""

    reasoning: str = ""
    content: str = ""


class ReasoningSplitter:
    """A splitter that separates thoughts from the answer as text arrives.

    thinking: whether the prompt has opened the thoughts. If not, the text may begin with `<think>`.
    """

    def __init__(self, thinking: bool) -> None:
        self._text = ""
        self._inside = thinking
        self._decided = thinking  # False until it is clear whether the text begins with thoughts
        self._at_start = True  # at the start of the thoughts, or of the answer after them; drops whitespace

    @property
    def held(self) -> int:
        """The number of characters held back for later."""
        return len(self._text)

    def feed(self, text: str) -> Split:
        """Add a piece of text and return the text that can be sent.

        Holds back the possible start of a marker, and whitespace that may be dropped.
        """
        self._text += text
        if not self._decided and not self._decide():
            return Split()
        reasoning = self._read_thoughts() if self._inside else ""
        return Split(reasoning, "" if self._inside else self._read_answer())

    def finish(self) -> Split:
        """End the answer and return the text that was held back."""
        text, self._text = self._text, ""  # thoughts may lack an end marker
        return Split(reasoning=text.rstrip()) if self._inside else Split(content=text)

    def _decide(self) -> bool:
        """Decide whether the text begins with thoughts. Returns False if still unclear."""
        start = self._text.lstrip()
        if start.startswith(THINK_START):
            self._text, self._inside = start[len(THINK_START) :], True
        elif THINK_START.startswith(start):
            return False
        else:
            self._at_start = False
        self._decided = True
        return True

    def _read_thoughts(self) -> str:
        if self._at_start:
            self._text = self._text.lstrip()
            self._at_start = not self._text
        thoughts, end, answer = self._text.partition(THINK_END)
        if end:
            self._text, self._inside, self._at_start = answer, False, True
            return thoughts.rstrip()
        certain = len(thoughts) - marker_prefix_length(THINK_END, thoughts)
        certain = len(thoughts[:certain].rstrip())
        self._text = thoughts[certain:]
        return thoughts[:certain]

    def _read_answer(self) -> str:
        text, self._text = self._text, ""
        if self._at_start:
            text = text.lstrip()
            self._at_start = not text
        return text
