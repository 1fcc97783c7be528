"""What every answer and chunk repeats, whatever the protocol: id, model, time and usage."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

LOWEST_LOGPROB = -9999.0  # OpenAI's stand-in for minus infinity, which JSON has no word for


class Counted(Protocol):
    """What an answer's usage is made of: tokens so far."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def cached_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of an answer repeats."""

    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))

    def wrap(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


def new_id(kind: str) -> str:
    """The id of an answer."""
    return f"{kind}-{uuid.uuid4().hex}"


def usage(completion: Counted) -> dict[str, Any]:
    """Tokens so far."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
    }
