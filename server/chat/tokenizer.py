"""Converts text to token ids, and token ids to bytes."""

from __future__ import annotations

import re
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from server.errors import ModelFolderError
from server.runtime.model_folder import read_object

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """A model's vocabulary and the rules that split text into tokens.

    bos: text of the BOS token; None if there is none. Ignored if the tokenizer has a post-processor.
    special: maps the text of each special token to its id.
    """

    def __init__(self, backend: tokenizers.Tokenizer, bos: str | None = None) -> None:
        self._backend, self._bos = backend, bos
        # A second backend, because treating special tokens as plain text is a setting of the whole backend.
        self._literal = _with_the_same_model(backend)
        self._literal.encode_special_tokens = True
        added = backend.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in added.items() if token.special}
        self._bytes = _token_bytes(backend)
        for i, token in added.items():
            self._bytes[i] = token.content.encode()
        self._beginning = backend.encode("").ids
        if backend.post_processor is None and bos in self.special:
            self._beginning = [self.special[bos]]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the tokenizer as the arguments that it was created with."""
        return Tokenizer, (self._backend, self._bos)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load the tokenizer of a model folder.

        Without tokenizer.json, transformers converts the other tokenizer files.
        Raises ModelFolderError if no tokenizer can be loaded.
        """
        path = folder / "tokenizer.json"
        bos = template_variables(folder).get("bos_token")
        try:
            if path.is_file():
                return cls(tokenizers.Tokenizer.from_file(str(path)), bos)
            from transformers import AutoTokenizer  # imported here: it takes a second, and few models need it

            return cls(AutoTokenizer.from_pretrained(folder).backend_tokenizer, bos)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # tokenizers raises plain Exception for a file it cannot load, or panics
            raise ModelFolderError(f"The tokenizer in {folder} cannot be read: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without a BOS. `<|im_end|>` becomes a special token."""
        return _ids(self._backend, text)

    def encode_literally(self, text: str) -> list[int]:
        """Return the ids of `text`. `<|im_end|>` becomes several ordinary tokens."""
        return _ids(self._literal, text)

    def beginning(self, tokens: list[int]) -> list[int]:
        """Return the tokens to put before `tokens`, such as the BOS.

        Returns [] if `tokens` already begin with them.
        """
        return [] if tokens[: len(self._beginning)] == self._beginning else self._beginning

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of `token`, which may end in the middle of a character.

        The bytes of a special token are its text. An unknown id has none.
        """
        return self._bytes.get(token, b"")

    def all_token_bytes(self, vocab_size: int) -> list[bytes]:
        """Return the bytes of each id below `vocab_size`."""
        return list(map(self._bytes.get, range(vocab_size), repeat(b"")))

    def unknown_ids(self, vocab_size: int) -> npt.NDArray[np.int64]:
        """Return the ids below `vocab_size` that are not in the vocabulary.

        The model may still have logits for them.
        """
        return np.array([i for i in range(vocab_size) if i not in self._bytes], np.int64)


def template_variables(folder: Path) -> dict[str, str]:
    """Return the special tokens by their names in templates: {"bos_token": "<s>"}.

    tokenizer_config.json overrides special_tokens_map.json.
    """
    variables: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, value in (read_object(folder / file) or {}).items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                variables[key] = text
    return variables


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    # A batch of one, because only batch encoding releases the GIL and megabytes of text take seconds.
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids


def _with_the_same_model(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Return a copy of `backend` that shares its vocabulary, which is slow to copy."""
    copy = tokenizers.Tokenizer(backend.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (value := getattr(backend, part)) is not None:
            setattr(copy, part, value)
    if backend.truncation is not None:
        copy.enable_truncation(**backend.truncation)
    if backend.padding is not None:
        copy.enable_padding(**backend.padding)
    added = backend.get_added_tokens_decoder()
    copy.add_tokens([added[i] for i in sorted(added)])
    return copy


def _token_bytes(backend: tokenizers.Tokenizer) -> dict[int, bytes]:
    """Return the bytes of each token, except for added tokens.

    The vocabulary must be byte-level or SentencePiece.
    """
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if backend.decoder is not None and b'"ByteLevel"' in backend.decoder.__getstate__():
        # Characters outside the alphabet have no byte. The table drops those that Latin-1 would encode.
        table = dict.fromkeys(range(256)) | {ord(c): byte for c, byte in _byte_alphabet().items()}
        return {i: token.translate(table).encode("latin-1", "ignore") for token, i in vocabulary.items()}
    return {i: _word_piece_bytes(token) for token, i in vocabulary.items()}


def _word_piece_bytes(token: str) -> bytes:
    """Return the bytes of a SentencePiece token.

    U+2581 stands for a space, and `<0x0A>` for the byte 0x0A.
    """
    if byte := BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Return the byte for each character of a byte-level vocabulary.

    The mapping is that of GPT-2's encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
