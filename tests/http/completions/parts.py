"""The parts of a completion that tests look at, and the tokens of random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai.types import Completion, CompletionChoice, CompletionUsage

from server.chat.tokenizer import Tokenizer
from server.export.tokenizer import BUILT_IN_TOKENIZER

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)
BOS, EOS = 1, 7
ENDLESS: dict[str, Any] = {"temperature": 0, "extra_body": {"ignore_eos": True}}
Complete = Callable[..., Completion]


def logprobs_of(choice: CompletionChoice) -> dict[str, list[Any]]:
    assert choice.logprobs is not None
    return choice.logprobs.to_dict()  # type: ignore[return-value]


def usage_of(answer: Completion) -> CompletionUsage:
    assert answer.usage is not None
    return answer.usage


def id_of(token: str) -> int:
    return next(i for i in range(1024) if TOKENIZER.token_bytes(i) == token.encode())
