"""Fields of all answers and chunks: ID, model, creation time and usage."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from server.api.generation.wire import CompletionUsage

LOWEST_LOGPROB = -9999.0  # OpenAI's stand-in for minus infinity, which JSON cannot express


class Counted(Protocol):
    """Token counts of a completion so far."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def cached_tokens(self) -> int: ...

    @property
    def reasoning_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Envelope:
    """Values that all chunks of an answer share."""

    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))


def new_id(kind: str) -> str:
    """Return a new answer ID with the prefix `kind`."""
    return f"{kind}-{uuid.uuid4().hex}"


def usage(completion: Counted) -> CompletionUsage:
    """Return a completion's token counts so far."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": completion.reasoning_tokens},
    }
