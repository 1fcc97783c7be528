"""Tokens to text, one at a time and never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from server.chat.tokenizer import Tokenizer


class Detokenizer:
    """The text of one sequence as it grows. Special tokens have no text, except those in `visible`."""

    def __init__(self, tokenizer: Tokenizer, visible: frozenset[str] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._hidden = frozenset(i for text, i in tokenizer.special.items() if text not in visible)
        self._shown = frozenset(tokenizer.special.values()) - self._hidden
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters that `token` completes."""
        if token in self._hidden:
            return ""
        text = self._tokenizer.token_bytes(token)
        if token in self._shown:
            return self.finish() + text.decode()
        return self._decoder.decode(text)

    def finish(self) -> str:
        """What is left of a character that was never completed, as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def whole_text(tokenizer: Tokenizer, tokens: Iterable[int]) -> str:
    """The text of all of `tokens`, special ones written out."""
    detokenizer = Detokenizer(tokenizer, visible=frozenset(tokenizer.special))
    return "".join(map(detokenizer.feed, tokens)) + detokenizer.finish()
