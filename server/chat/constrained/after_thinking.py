"""Delays a constraint until the model's thoughts have ended.

The thoughts themselves are unconstrained. This module depends on neither calls nor schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from server.chat.markers import THINK_END, THINK_START
from server.chat.tokenizer import Tokenizer
from server.engine.sampling.constraint import Bitmask, Constraint

START, END = THINK_START.encode(), THINK_END.encode()


class AfterThinking:
    """A constraint that applies another constraint only after the thoughts.

    answer: the constraint to apply.
    think_starts: the result of `think_starts()` for this tokenizer.
    end_tokens: the tokens that are forbidden until the answer has begun; empty if the answer may be empty.
    is_open: whether the prompt has opened the thoughts. If not, the first tokens decide whether there are thoughts:
    they either spell `<think>` or belong to the answer.
    """

    def __init__(
        self,
        answer: Constraint,
        tokenizer: Tokenizer,
        think_starts: Mapping[bytes, Sequence[int]],
        end_tokens: Sequence[int],
        *,
        is_open: bool,
    ) -> None:
        self._answer = answer
        self._tokenizer = tokenizer
        self._think_starts = think_starts
        self._end_tokens = end_tokens
        self._thinking = is_open
        self._decided = is_open  # False until the first tokens show whether there are thoughts
        self._tail = b""  # until decided, the part of `<think>` generated so far; later, the end of the thoughts

    def mask(self, out: Bitmask) -> bool:
        """Store in `out` which tokens may come next, as Constraint.mask does."""
        if self._thinking:
            return forbid_tokens(out, self._end_tokens)
        if self._decided or not self._end_tokens:
            return self._answer.mask(out)
        if self._tail:
            out.fill(0)
        else:
            self._answer.mask(out)
        for token in self._think_starts[self._tail]:
            out.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)
        return True

    def commit(self, token: int) -> None:
        """Advance by `token`, as Constraint.commit does."""
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
        """Return the answer's forced tokens; an empty list before the answer begins."""
        return self._answer.forced_tokens() if self._decided and not self._thinking else []

    def _decide(self, token: int, text: bytes) -> None:
        """Advance by a token while it is unknown whether the model will write thoughts."""
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


def think_starts(tokenizer: Tokenizer, vocab_size: int) -> dict[bytes, tuple[int, ...]]:
    """Map each proper prefix of `<think>` to the tokens that continue its spelling.

    Example: `<thi` is mapped to the tokens `n`, `nk`, `nk>` and to all tokens that begin with `nk>`.

    If `<think>` is a special token, the result contains only this token, because no other tokens open thoughts.
    """
    if (special := tokenizer.special.get(THINK_START)) is not None:
        return {b"": (special,)}
    texts = list(enumerate(tokenizer.all_token_bytes(vocab_size)))
    texts = [(token, text) for token, text in texts if text and text[:1] in START]
    rests = {START[:i]: START[i:] for i in range(len(START))}
    return {
        begun: tuple(token for token, text in texts if text.startswith(rest) or rest.startswith(text))
        for begun, rest in rests.items()
    }


def forbid_tokens(out: Bitmask, tokens: Iterable[int]) -> bool:
    """Set the mask `out` to allow all tokens except `tokens`.

    Returns True. If `tokens` is empty, leaves `out` unchanged and returns False.
    """
    forbidden = list(tokens)
    if forbidden:
        out.fill(-1)
        for token in forbidden:
            out.view(np.uint32)[token // 32] &= np.uint32(~(1 << token % 32) & 0xFFFFFFFF)
    return bool(forbidden)
