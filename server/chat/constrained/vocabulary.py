"""Converts a model's tokens to the formats of llguidance and the workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from llguidance import LLTokenizer, TokenizerWrapper

from server.chat.tokenizer import Tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model, for compiling grammars.

    tokens: the bytes of each token id; b"" if it has none.
    special: ids of special tokens.
    end_tokens: ids of tokens that end an answer.
    """

    tokens: tuple[bytes, ...]
    special: tuple[int, ...]
    end_tokens: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocab_size: int, end_tokens: Sequence[int]) -> Vocabulary:
        """Return the vocabulary of a tokenizer.

        vocab_size: number of token ids for which the model computes logits.
        """
        tokens = tuple(tokenizer.all_token_bytes(vocab_size))
        return cls(tokens, tuple(sorted(tokenizer.special.values())), tuple(end_tokens))

    def to_json(self) -> str:
        """Return the vocabulary as JSON for `from_json`."""
        return json.dumps([[token.decode("latin-1") for token in self.tokens], self.special, self.end_tokens])

    @classmethod
    def from_json(cls, text: bytes) -> Vocabulary:
        """Return the vocabulary from the output of `to_json`."""
        tokens, special, end_tokens = json.loads(text)
        return cls(tuple(token.encode("latin-1") for token in tokens), tuple(special), tuple(end_tokens))

    def ll_tokenizer(self, encode: Callable[[str], list[int]] | None = None) -> LLTokenizer:
        """Return llguidance's tokenizer for this vocabulary.

        encode: converts a text to token ids. The default always takes the longest token that matches.
        """
        wrapper = _Wrapper(self, encode or self._longest_tokens)
        return LLTokenizer(wrapper, n_vocab=len(self.tokens), eos_token=list(self.end_tokens))

    def _longest_tokens(self, text: str) -> list[int]:
        data, ids, start = text.encode(), [], 0
        while start < len(data):
            lengths = range(min(self._longest, len(data) - start), 0, -1)
            length = next((n for n in lengths if data[start : start + n] in self._ids), 0)
            if length:
                ids.append(self._ids[data[start : start + length]])
            start += max(1, length)
        return ids

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        special = set(self.special)
        return {text: token for token, text in enumerate(self.tokens) if text and token not in special}

    @cached_property
    def _longest(self) -> int:
        return min(64, max(map(len, self._ids), default=1))


class _Wrapper(TokenizerWrapper):
    """An adapter from Vocabulary to the tokenizer interface of llguidance."""

    def __init__(self, vocabulary: Vocabulary, encode: Callable[[str], list[int]]) -> None:
        self.is_tokenizer_wrapper = True
        self.bos_token_id = None
        self.eos_token_id = vocabulary.end_tokens[0]
        self.tokens = list(vocabulary.tokens)
        self.special_token_ids = list(vocabulary.special)
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)
