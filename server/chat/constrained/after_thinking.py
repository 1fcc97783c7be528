"""Delays a constraint until the thoughts have ended, and limits their length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.chat.markers import THINK_END, THINK_START
from server.chat.thought_tracker import START, ThoughtTracker
from server.chat.tokenizer import Tokenizer
from server.chat.types import Thoughts
from server.engine.sampling.constraint import Bitmask, Constraint


@dataclass(frozen=True, slots=True)
class ThoughtMarkers:
    """The tokens that spell `<think>` and `</think>`.

    starts: the tokens that continue an incomplete `<think>`. The key is what an answer has written of it so far.
        Example: for the key b"<th", tokens such as `in` and `ink>`. If `<think>` is a special token, the only key is
        b"", which holds only this token.
    end: the tokens of `</think>`, in order.
    """

    tokenizer: Tokenizer
    starts: Mapping[bytes, Sequence[int]]
    end: Sequence[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, tokens: Sequence[bytes]) -> ThoughtMarkers:
        """Return the markers of a tokenizer.

        tokens: the bytes of each token id.
        """
        return cls(tokenizer, _starts(tokenizer, tokens), tokenizer.encode(THINK_END))


class AfterThinking:
    """A constraint that applies another constraint only after the thoughts.

    start_answer: returns the constraint of the answer. None if any answer is allowed.
    end_tokens: the tokens that end an answer, forbidden in the thoughts; () if the answer may be empty.
    is_open: whether the prompt ends inside the thoughts. If not, the answer may start with `<think>`.
    budget: number of tokens in the thoughts after which `</think>` is forced; None if unlimited.
    """

    def __init__(
        self,
        start_answer: Callable[[], Constraint] | None,
        markers: ThoughtMarkers,
        end_tokens: Sequence[int],
        *,
        is_open: bool,
        budget: int | None,
    ) -> None:
        self._start_answer = start_answer
        self._answer = start_answer() if start_answer else None  # None also while only `<think>` can follow
        self._markers = markers
        self._end_tokens = end_tokens
        self._tracker = ThoughtTracker(is_open, markers.starts)
        self._budget = budget
        self._answer_mask: Bitmask | None = None  # the answer's last mask, while thoughts may still begin

    def mask(self, out: Bitmask) -> bool:
        """Store in `out` which tokens may come next, as Constraint.mask does."""
        if self._tracker.state is Thoughts.OPEN:
            if not (end := self._forced_end()):
                return forbid_tokens(out, self._end_tokens)
            out.fill(0)
            _allow(out, end[:1])
            return True
        if self._start_answer is None:
            return False
        if self._answer is None:
            out.fill(0)
        elif not self._answer.mask(out):
            return False
        if self._tracker.state is Thoughts.POSSIBLE and self._end_tokens:
            self._answer_mask = out.copy()
            _allow(out, self._markers.starts[self._tracker.begun])
        return True

    def commit(self, token: int) -> None:
        """Advance by `token`, as Constraint.commit does."""
        before = self._tracker.state
        self._tracker.commit(self._markers.tokenizer.token_bytes(token))
        after = self._tracker.state
        if after is Thoughts.OPEN and before is Thoughts.POSSIBLE:
            self._answer = self._start_answer() if self._start_answer else None
        elif self._answer is not None and Thoughts.OPEN not in (before, after):  # the answer may have begun
            if self._answer_mask is None or _allows(self._answer_mask, token):
                self._answer.commit(token)
            else:
                self._answer = None  # only `<think>` begins like the text so far
        self._answer_mask = None

    def forced_tokens(self) -> list[int]:
        """Return the tokens that must come next, in order.

        Once the thoughts have used up the budget, these are the tokens of `</think>` that are still to come.
        """
        if self._tracker.state is Thoughts.OPEN:
            return [*self._forced_end()]
        return self._answer.forced_tokens() if self._answer and self._tracker.state is Thoughts.NONE else []

    def _forced_end(self) -> Sequence[int]:
        """Return the tokens of `</think>` that are still to come, or () while the budget lasts."""
        if self._budget is None or self._tracker.spent < self._budget:
            return ()
        return self._markers.end[self._tracker.spent - self._budget :]


def _starts(tokenizer: Tokenizer, tokens: Sequence[bytes]) -> dict[bytes, tuple[int, ...]]:
    if (special := tokenizer.special.get(THINK_START)) is not None:
        return {b"": (special,)}
    texts = [(i, text) for i, text in enumerate(tokens) if text and text[0] in START]
    rests = {START[:i]: START[i:] for i in range(len(START))}
    return {
        begun: tuple(token for token, text in texts if text.startswith(rest) or rest.startswith(text))
        for begun, rest in rests.items()
    }


def _allow(out: Bitmask, tokens: Iterable[int]) -> None:
    """Allow `tokens` in the mask `out`, in addition to those already allowed."""
    for token in tokens:
        out.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)


def _allows(mask: Bitmask, token: int) -> bool:
    return bool(mask.view(np.uint32)[token // 32] >> np.uint32(token % 32) & 1)


def forbid_tokens(out: Bitmask, tokens: Iterable[int]) -> bool:
    """Make `out` a mask that allows all tokens except `tokens`.

    Returns False and leaves `out` unchanged if `tokens` is empty.
    """
    forbidden = list(tokens)
    if forbidden:
        out.fill(-1)
        for token in forbidden:
            out.view(np.uint32)[token // 32] &= np.uint32(~(1 << token % 32) & 0xFFFFFFFF)
    return bool(forbidden)
