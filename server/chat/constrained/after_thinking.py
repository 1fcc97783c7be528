"""A grammar that begins behind a model's thoughts, which are free. Knows no calls and no schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from server.chat.markers import THINK_END, THINK_START
from server.chat.tokenizer import Tokenizer
from server.engine.sampling.constraint import Bitmask, Constraint

START, END = THINK_START.encode(), THINK_END.encode()


class AfterThoughts:
    """The constraint `answer`, from behind the thoughts on.

    `end_tokens` are those that may not come before there is an answer; none of them where an answer is not owed, as it
    may be free. Where thoughts are not `open`, the first tokens tell: they are the answer's, or spell START by
    `beginnings` (see `beginnings_of`).
    """

    def __init__(
        self,
        answer: Constraint,
        tokenizer: Tokenizer,
        beginnings: Mapping[bytes, Sequence[int]],
        end_tokens: Sequence[int],
        *,
        is_open: bool,
    ) -> None:
        self._answer = answer
        self._tokenizer = tokenizer
        self._beginnings = beginnings
        self._end_tokens = end_tokens
        self._thinking = is_open
        self._decided = is_open  # whether it is clear if there are thoughts
        self._tail = b""

    def mask(self, out: Bitmask) -> bool:
        """As Constraint's."""
        if self._thinking:
            return ban(out, self._end_tokens)
        if self._decided or not self._end_tokens:
            return self._answer.mask(out)
        if self._tail:
            out.fill(0)
        else:
            self._answer.mask(out)
        for token in self._beginnings[self._tail]:
            out.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)
        return True

    def commit(self, token: int) -> None:
        """As Constraint's."""
        text = self._tokenizer.token_bytes(token)
        if self._thinking:
            self._tail += text
            self._thinking = END not in self._tail
            self._tail = self._tail[-len(END) :]
        elif self._decided:
            self._answer.commit(token)
        else:
            self._decide(token, text)

    def forced_tokens(self) -> list[int]:
        """As Constraint's."""
        return self._answer.forced_tokens() if self._decided and not self._thinking else []

    def _decide(self, token: int, text: bytes) -> None:
        begun = (self._tail + text).lstrip()
        if begun.startswith(START):
            self._thinking = self._decided = True
            self._tail = begun[len(START) :]
        elif not START.startswith(begun):
            self._decided = True
        else:
            self._tail = begun
        if not self._thinking and (self._decided or not self._end_tokens):
            self._answer.commit(token)


def beginnings_of(tokenizer: Tokenizer, vocab_size: int) -> dict[bytes, tuple[int, ...]]:
    """The tokens that spell START, or go on with it, by what of it is there already."""
    if (special := tokenizer.special.get(THINK_START)) is not None:
        return {b"": (special,)}
    texts = [(token, tokenizer.token_bytes(token)) for token in range(vocab_size)]
    texts = [(token, text) for token, text in texts if text and text[:1] in START]
    rests = {START[:i]: START[i:] for i in range(len(START))}
    return {
        begun: tuple(token for token, text in texts if text.startswith(rest) or rest.startswith(text))
        for begun, rest in rests.items()
    }


def ban(out: Bitmask, tokens: Iterable[int]) -> bool:
    """Sets the bits of all but `tokens`; returns whether there are any, else `out` stays as it was."""
    banned = list(tokens)
    if banned:
        out.fill(-1)
        for token in banned:
            out.view(np.uint32)[token // 32] &= np.uint32(~(1 << token % 32) & 0xFFFFFFFF)
    return bool(banned)
