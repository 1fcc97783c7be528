"""Finds the thoughts in the tokens of an answer, and counts their tokens."""

from __future__ import annotations

from collections.abc import Container

from server.chat.markers import THINK_END, THINK_START, marker_prefix_length
from server.chat.types import Thoughts

START, END = THINK_START.encode(), THINK_END.encode()
PARTS = frozenset(START[:i] for i in range(len(START)))
"""The incomplete starts of `<think>`, including ""."""


class ThoughtTracker:
    """A tracker of the thoughts of one sequence, advanced token by token.

    is_open: whether the prompt ends with `<think>`. If not, the answer may begin with it.
    parts: the incomplete starts of `<think>` that may occur. Only "" if `<think>` is a special token.
    state: OPEN in the thoughts, POSSIBLE while `<think>` may still come, otherwise NONE.
    begun: incomplete marker at the end of the text, such as `</th`.
    spent: number of tokens after `<think>`, including the tokens of `</think>`.
    """

    def __init__(self, is_open: bool, parts: Container[bytes] = PARTS) -> None:
        self.state = Thoughts.OPEN if is_open else Thoughts.POSSIBLE
        self.begun = b""
        self.spent = 0
        self._parts = parts
        self._marker_tokens: list[int] = []  # lengths of the tokens that lie within `begun`

    @property
    def tokens(self) -> int:
        """The number of tokens in the thoughts so far, without the markers."""
        return self.spent - len(self._marker_tokens)

    def commit(self, text: bytes) -> None:
        """Advance by one token, given as its bytes."""
        if self.state is Thoughts.OPEN:
            self._think(text)
        elif self.state is Thoughts.POSSIBLE:
            self._decide(text)

    def _think(self, text: bytes) -> None:
        self.spent += 1
        self._marker_tokens.append(len(text))
        thoughts = self.begun + text
        end = thoughts.find(END)
        if end >= 0:
            self.state = Thoughts.NONE
        marker = len(thoughts) - end if end >= 0 else marker_prefix_length(END, thoughts)
        self.begun = thoughts[len(thoughts) - marker :]
        while sum(self._marker_tokens) > marker:
            del self._marker_tokens[0]

    def _decide(self, text: bytes) -> None:
        """Advance by one token while `<think>` may still come."""
        self.begun = (self.begun + text).lstrip()
        if self.begun.startswith(START):
            self.state, rest = Thoughts.OPEN, self.begun[len(START) :]
            self.begun = rest[len(rest) - marker_prefix_length(END, rest) :]
        elif self.begun not in self._parts:
            self.state = Thoughts.NONE
