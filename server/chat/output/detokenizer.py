"""Converts tokens to text, one token at a time, without splitting characters."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from server.chat.tokenizer import Tokenizer


class Detokenizer:
    """A decoder of the tokens of one sequence.

    visible: special tokens to show. The text of other special tokens is left out.
    """

    def __init__(self, tokenizer: Tokenizer, visible: frozenset[str] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._hidden = frozenset(i for text, i in tokenizer.special.items() if text not in visible)
        self._shown = frozenset(tokenizer.special.values()) - self._hidden
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Return the characters that `token` completes."""
        if token in self._hidden:
            return ""
        text = self._tokenizer.token_bytes(token)
        if token in self._shown:
            return self.finish() + text.decode()
        return self._decoder.decode(text)

    def finish(self) -> str:
        """Return U+FFFD if the last character is incomplete, otherwise ""."""
        return self._decoder.decode(b"", final=True)


def whole_text(tokenizer: Tokenizer, tokens: Iterable[int]) -> str:
    """Return the text of all `tokens`, including special tokens."""
    detokenizer = Detokenizer(tokenizer, visible=frozenset(tokenizer.special))
    return "".join(map(detokenizer.feed, tokens)) + detokenizer.finish()
