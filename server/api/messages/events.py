"""Converts the deltas of an answer to Anthropic's stream events.

Non-streamed answers are built from the same events.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator
from functools import lru_cache

from pydantic_core import to_json

from server.api.http.sse import named_event
from server.api.messages.wire import (
    AnthropicMessage,
    BlockDelta,
    ContentBlock,
    Event,
    MessageDelta,
    MessageUsage,
    StopReason,
)
from server.chat.completion import Completion
from server.chat.types import ChoiceEnd, Delta

STOP_REASONS: dict[ChoiceEnd, StopReason] = {
    ChoiceEnd.STOP: "end_turn",
    ChoiceEnd.LENGTH: "max_tokens",
    ChoiceEnd.TOOL_CALLS: "tool_use",
}


class MessageEvents:
    """Builds the events of one message."""

    def __init__(self, completion: Completion[Delta], model: str, *, with_token_ids: bool) -> None:
        self._completion = completion
        self._model = model
        self._open: str | None = None  # type of the open block
        self._index = -1
        self._thoughts = hashlib.sha256()
        self._token_ids: list[int] | None = [] if with_token_ids else None

    def start(self) -> Event:
        """Return the first event."""
        message: AnthropicMessage = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage(),
        }
        if self._token_ids is not None:
            message["prompt_token_ids"] = self._completion.prompts[0]
        return {"type": "message_start", "message": message}

    def add(self, delta: Delta) -> Iterator[Event]:
        """Yield the events for `delta`."""
        if self._token_ids is not None:
            self._token_ids += delta.token_ids
        if delta.reasoning:
            yield from self._opened({"type": "thinking", "thinking": "", "signature": ""})
            self._thoughts.update(delta.reasoning.encode())
            yield self._block_delta({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.content:
            yield from self._opened({"type": "text", "text": ""})
            yield self._block_delta({"type": "text_delta", "text": delta.content})
        if (call := delta.tool_call) is not None:
            if call.id is not None and call.name is not None:
                yield from self._closed()
                yield from self._opened({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
            if call.arguments:
                yield self._block_delta({"type": "input_json_delta", "partial_json": call.arguments})
        if delta.end is not None:
            yield from self._closed()
            yield from self._end(delta.end, delta.stop)

    def _end(self, end: ChoiceEnd, stop: str | None) -> Iterator[Event]:
        reason: StopReason = "stop_sequence" if stop is not None else STOP_REASONS[end]
        last: MessageDelta = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": stop},
            "usage": self._usage(),
        }
        if self._token_ids is not None:
            last["token_ids"] = self._token_ids
        yield last
        yield {"type": "message_stop"}

    def _opened(self, block: ContentBlock) -> Iterator[Event]:
        """Yield the events that end the open block and begin `block`.

        If the open block has the same type, it stays open and there are no events.
        """
        if self._open != block["type"]:
            yield from self._closed()
            self._open = block["type"]
            self._index += 1
            yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _closed(self) -> Iterator[Event]:
        """Yield the events that end the open block."""
        if self._open == "thinking":
            signature = base64.b64encode(self._thoughts.digest()).decode()
            yield self._block_delta({"type": "signature_delta", "signature": signature})
        if self._open is not None:
            yield {"type": "content_block_stop", "index": self._index}
        self._open = None

    def _block_delta(self, delta: BlockDelta) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _usage(self) -> MessageUsage:
        completion = self._completion
        return {
            "input_tokens": completion.prompt_tokens - completion.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": completion.cached_tokens,
            "output_tokens": completion.completion_tokens,
            "output_tokens_details": {"thinking_tokens": completion.reasoning_tokens},
        }


def encoded(event: Event) -> bytes:
    """Encode `event` as a server-sent event.

    The constant parts of the per-token event `content_block_delta` are cached.
    """
    if event["type"] == "content_block_delta":
        match event["delta"]:
            case {"type": "text_delta", "text": str(text)}:
                return _delta_start(event["index"], "text_delta", "text") + to_json(text) + b"}}\n\n"
            case {"type": "thinking_delta", "thinking": str(text)}:
                return _delta_start(event["index"], "thinking_delta", "thinking") + to_json(text) + b"}}\n\n"
    return named_event(event)


@lru_cache(maxsize=64)
def _delta_start(index: int, kind: str, field: str) -> bytes:
    """Return the start of an encoded `content_block_delta`, up to its text.

    Example of the last line: `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":`.
    """
    start = f'{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{field}":'
    return b"event: content_block_delta\ndata: " + start.encode()
