"""The model's tokenizer: text to ids, and each id's bytes. Knows no template and no chat."""

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
    """A vocabulary and its rules. `special` maps the text of every special token to its id.

    `bos` is the special token that begins texts where the rules themselves do not say how they begin.
    """

    def __init__(self, backend: tokenizers.Tokenizer, bos: str | None = None) -> None:
        self._backend = backend
        # A second one, since reading special tokens as plain text is a setting of the whole tokenizer.
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
        """The tokenizer of a model folder; transformers converts one without a tokenizer.json.

        Raises ModelFolderError where there is none that can be read.
        """
        path = folder / "tokenizer.json"
        bos = template_variables(folder).get("bos_token")
        try:
            if path.is_file():
                return cls(tokenizers.Tokenizer.from_file(str(path)), bos)
            from transformers import AutoTokenizer  # takes a second to import, and few models need it

            return cls(AutoTokenizer.from_pretrained(folder).backend_tokenizer, bos)
        except Exception as error:  # tokenizers raises plain Exception for whatever it cannot read
            raise ModelFolderError(f"The tokenizer in {folder} cannot be read: {error}") from None

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, in which special tokens are written out; none are added."""
        return _ids(self._backend, text)

    def encode_literally(self, text: str) -> list[int]:
        """Ids of `text` as plain text: what looks like a special token does not become one."""
        return _ids(self._literal, text)

    def beginning(self, tokens: list[int]) -> list[int]:
        """What goes in front of the tokens of a bare text, such as the model's BOS: nothing if they begin with it."""
        return [] if tokens[: len(self._beginning)] == self._beginning else self._beginning

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for, perhaps part of a character; a special token's are its text."""
        return self._bytes.get(token, b"")

    def unknown_ids(self, vocab_size: int) -> npt.NDArray[np.int64]:
        """Ids below `vocab_size` that stand for nothing: the model has logits for them, the tokenizer no text."""
        return np.array([i for i in range(vocab_size) if i not in self._bytes], np.int64)


def template_variables(folder: Path) -> dict[str, str]:
    """The special tokens a chat template may name: `bos_token`, `eos_token`, ... of tokenizer_config.json."""
    variables: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, value in (read_object(folder / file) or {}).items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                variables[key] = text
    return variables


def template_source(folder: Path) -> str | None:
    """The model's chat template: chat_template.jinja, or what tokenizer_config.json or chat_template.json holds."""
    if (path := folder / "chat_template.jinja").is_file():
        return path.read_text(encoding="utf-8")
    for file in ("tokenizer_config.json", "chat_template.json"):
        template = (read_object(folder / file) or {}).get("chat_template")
        if isinstance(template, list):
            template = {named["name"]: named["template"] for named in template}.get("default")
        if isinstance(template, str):
            return template
    return None


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    # As a batch: it lets other threads run meanwhile, which for a text of megabytes is seconds.
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids


def _token_bytes(backend: tokenizers.Tokenizer) -> dict[int, bytes]:
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if backend.decoder is not None and b'"ByteLevel"' in backend.decoder.__getstate__():
        table = _byte_alphabet()
        return {i: bytes(table[c] for c in token if c in table) for token, i in vocabulary.items()}
    return {i: _word_piece_bytes(token) for token, i in vocabulary.items()}


def _word_piece_bytes(token: str) -> bytes:
    """SentencePiece's spelling: a low line for a space, <0x0A> for a byte."""
    if byte := BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's encoder.py)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
