"""Deltas in OpenAI's wire shapes: chunks for streams, one body for plain answers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from server.chat.service import Completion
from server.chat.types import ChoiceEnd, Delta, TokenLogprob, TokenText, ToolCallDelta

LOWEST_LOGPROB = -9999.0  # OpenAI's stand-in for minus infinity, which JSON has no word for


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of an answer repeats."""

    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
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


class Chunks:
    """One answer as chunks."""

    def __init__(self, envelope: Envelope, completion: Completion, usage_in_each: bool, usage_at_end: bool) -> None:
        self._envelope = envelope
        self._completion = completion
        self._usage_in_each = usage_in_each
        self._usage_at_end = usage_at_end

    def opening(self, choice: int) -> dict[str, Any]:
        return self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def delta(self, choice: int, delta: Delta) -> dict[str, Any]:
        gained: dict[str, Any] = {"content": delta.content} if delta.content else {}
        if delta.tool_call is not None:
            gained["tool_calls"] = [{"index": delta.tool_call.index, **_tool_call(delta.tool_call)}]
        return self._chunk(choice, gained, delta.end, delta.logprobs)

    def usage(self) -> dict[str, Any]:
        """The last chunk, of no choice."""
        return self._envelope.wrap("chat.completion.chunk", []) | {"usage": usage(self._completion)}

    def _chunk(
        self, choice: int, delta: dict[str, Any], end: ChoiceEnd | None = None, logprobs: tuple[TokenLogprob, ...] = ()
    ) -> dict[str, Any]:
        entry = {"index": choice, "delta": delta, "logprobs": _logprobs(logprobs), "finish_reason": end}
        chunk = self._envelope.wrap("chat.completion.chunk", [entry])
        if self._usage_in_each:
            chunk["usage"] = usage(self._completion)
        elif self._usage_at_end:
            chunk["usage"] = None
        return chunk


@dataclass(slots=True)
class ChoiceBody:
    """A plain answer's choice, gathered from the deltas a stream would send."""

    content: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: ChoiceEnd | None = None

    def add(self, delta: Delta) -> None:
        self.content.append(delta.content)
        if delta.tool_call is not None:
            self.tool_calls.append(delta.tool_call)
        self.logprobs += delta.logprobs
        self.end = delta.end

    def to_json(self, index: int) -> dict[str, Any]:
        content = "".join(self.content)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.tool_calls:
            message["content"] = content or None
            message["tool_calls"] = [_tool_call(call) for call in self.tool_calls]
        return {"index": index, "message": message, "logprobs": _logprobs(self.logprobs), "finish_reason": self.end}


def body(envelope: Envelope, completion: Completion, choices: Iterable[ChoiceBody]) -> dict[str, Any]:
    """A plain answer."""
    entries = [choice.to_json(i) for i, choice in enumerate(choices)]
    return envelope.wrap("chat.completion", entries) | {"usage": usage(completion)}


def usage(completion: Completion) -> dict[str, Any]:
    """Tokens so far."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _tool_call(call: ToolCallDelta) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprobs(logprobs: Iterable[TokenLogprob]) -> dict[str, Any] | None:
    content = [_shown(entry.token) | {"top_logprobs": [_shown(token) for token in entry.top]} for entry in logprobs]
    return {"content": content, "refusal": None} if content else None


def _shown(token: TokenText) -> dict[str, Any]:
    return {"token": token.text, "logprob": max(token.logprob, LOWEST_LOGPROB), "bytes": list(token.data)}
