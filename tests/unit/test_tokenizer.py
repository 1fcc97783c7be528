"""The tokenizer's second backend, which shares its vocabulary, and the bytes of its tokens."""

from __future__ import annotations

import tokenizers

from server.chat.tokenizer import _token_bytes, _with_the_same_model
from server.loading.model_choice import BUILT_IN


def backend() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(BUILT_IN / "tokenizer.json"))


def test_a_backend_with_the_same_model_has_all_of_the_settings() -> None:
    original = backend()
    original.enable_truncation(100, stride=3)
    original.enable_padding(pad_id=2, pad_token="<pad>", length=5)
    assert _with_the_same_model(original).to_str() == original.to_str()


def test_only_the_other_backend_takes_special_tokens_literally() -> None:
    original = backend()
    other = _with_the_same_model(original)
    other.encode_special_tokens = True
    special = original.token_to_id("<|im_end|>")
    assert original.encode("<|im_end|>").ids[-1] == special
    assert special not in other.encode("<|im_end|>").ids


def test_characters_outside_the_byte_alphabet_have_no_bytes() -> None:
    alphabet = {"Ġ": 0, "é": 1, "aĠb": 2, "a b\N{SNOWMAN}\x07c": 3, "\N{SNOWMAN}": 4}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(alphabet, []))
    made.decoder = tokenizers.decoders.ByteLevel()
    assert _token_bytes(made) == {0: b" ", 1: b"\xe9", 2: b"a b", 3: b"abc", 4: b""}
