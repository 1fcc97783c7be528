"""Drops the oldest messages of a chat that does not fit into the context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

from server.chat.types import ChatRequest

DEFAULT_ROOM = 4
"""The divisor of the context length that gives the room for the answer by default."""


def truncated(request: ChatRequest, tokens: Callable[[ChatRequest], list[int]], max_model_len: int) -> list[int] | None:
    """Return the prompt with as many of the newest messages as fit.

    Keeps the first system messages. Returns None if no message fits.

    tokens: returns the tokens of a request's prompt.
    """
    messages = request.messages
    most = max_model_len - min(request.max_tokens or max_model_len // DEFAULT_ROOM, max_model_len // 2)
    kept = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    # The results of calls are dropped together with the calls.
    starts = [i for i in range(kept, len(messages)) if i == kept or messages[i].role != "tool"]
    prompts: dict[int, list[int]] = {}

    def fits(start: int) -> bool:
        prompts[start] = tokens(replace(request, messages=(*messages[:kept], *messages[start:])))
        return len(prompts[start]) <= most

    first = bisect_left(starts, True, key=fits)
    return prompts[starts[first]] if first < len(starts) else None
