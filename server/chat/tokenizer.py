"""Converts text to token ids and token ids to bytes, by the model's own tokenizer files.

Knows neither chat templates nor messages, except for the special tokens that templates refer to.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from server.errors import ModelFolderError
from server.runtime.model_folder import read_object

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """A model's vocabulary and the rules that split text into its tokens.

    `special` maps the text of each special token to its id. `bos` is the special token that begins a text; it is used
    only if the tokenizer file defines no post-processor that adds one.
    """

    def __init__(self, backend: tokenizers.Tokenizer, bos: str | None = None) -> None:
        self._backend = backend
        # A second backend, because treating special tokens as plain text is a setting of the whole backend.
        self._literal = tokenizers.Tokenizer.from_str(backend.to_str())
        self._literal.encode_special_tokens = True
        added = backend.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in added.items() if token.special}
        self._bytes = _token_bytes(backend)
        for i, token in added.items():
            self._bytes[i] = token.content.encode()
        self._beginning = backend.encode("").ids
        if backend.post_processor is None and bos in self.special:
            self._beginning = [self.special[bos]]

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load the tokenizer of a model folder.

        Without a tokenizer.json, transformers converts the other tokenizer files. Raises ModelFolderError if no
        tokenizer can be loaded.
        """
        path = folder / "tokenizer.json"
        bos = template_variables(folder).get("bos_token")
        try:
            if path.is_file():
                return cls(tokenizers.Tokenizer.from_file(str(path)), bos)
            from transformers import AutoTokenizer  # imported here: it takes a second, and few models need it

            return cls(AutoTokenizer.from_pretrained(folder).backend_tokenizer, bos)
        except Exception as error:  # tokenizers raises plain Exception for a file it cannot load
            raise ModelFolderError(f"The tokenizer in {folder} cannot be read: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`. A special token written in it gets its own id; no BOS is added."""
        return _ids(self._backend, text)

    def encode_literally(self, text: str) -> list[int]:
        """Return the ids of `text`, treating the text of special tokens as plain text."""
        return _ids(self._literal, text)

    def beginning(self, tokens: list[int]) -> list[int]:
        """Return the tokens to put before `tokens`, such as the BOS; none if `tokens` already begin with them."""
        return [] if tokens[: len(self._beginning)] == self._beginning else self._beginning

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of `token`, which may end within a character; a special token's bytes are its text."""
        return self._bytes.get(token, b"")

    def unknown_ids(self, vocab_size: int) -> npt.NDArray[np.int64]:
        """Return the ids below `vocab_size` that are not in the vocabulary, though the model has logits for them."""
        return np.array([i for i in range(vocab_size) if i not in self._bytes], np.int64)


def template_variables(folder: Path) -> dict[str, str]:
    """Return the special tokens that a chat template may refer to by name: `bos_token`, `eos_token` and so on.

    An entry of tokenizer_config.json overrides one of special_tokens_map.json.
    """
    variables: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, value in (read_object(folder / file) or {}).items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                variables[key] = text
    return variables


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    # A batch of one, because encoding a batch releases the GIL; megabytes of text take seconds.
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids


def _token_bytes(backend: tokenizers.Tokenizer) -> dict[int, bytes]:
    """Return the bytes of each token of a byte-level or SentencePiece vocabulary, without added tokens."""
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if backend.decoder is not None and b'"ByteLevel"' in backend.decoder.__getstate__():
        table = _byte_alphabet()
        return {i: bytes(table[c] for c in token if c in table) for token, i in vocabulary.items()}
    return {i: _word_piece_bytes(token) for token, i in vocabulary.items()}


def _word_piece_bytes(token: str) -> bytes:
    """Decode SentencePiece's spelling of a token: U+2581 stands for a space, `<0x0A>` for the byte 0x0A."""
    if byte := BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Map each character of a byte-level vocabulary to the byte it stands for (GPT-2's encoder.py)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
