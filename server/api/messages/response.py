"""Builds the body of a non-streamed answer."""

from __future__ import annotations

from pydantic_core import from_json

from server.api.messages.wire import AnthropicMessage, BlockDelta, Event


class MessageBody:
    """The body of an answer, built from its events."""

    def __init__(self) -> None:
        self._message: AnthropicMessage | None = None
        self._pieces: list[list[str]] = []  # text of each block: text, thoughts, or JSON text of the arguments

    def add(self, event: Event) -> None:
        """Add the content of `event`."""
        if event["type"] == "message_start":
            self._message = event["message"]
            return
        message = self._message
        assert message is not None
        if event["type"] == "content_block_start":
            message["content"].append(event["content_block"])
            self._pieces.append([])
        elif event["type"] == "content_block_delta":
            self._add_delta(message, event["index"], event["delta"])
        elif event["type"] == "message_delta":
            message["stop_reason"] = event["delta"]["stop_reason"]
            message["stop_sequence"] = event["delta"]["stop_sequence"]
            message["usage"] = event["usage"]
            if "token_ids" in event:
                message["token_ids"] = event["token_ids"]

    def to_json(self) -> AnthropicMessage:
        """Return the message.

        Arguments that were cut off lose an incomplete last value, as in Anthropic's client:
        `{"city": "Bern", "day": "Mo` becomes `{"city": "Bern"}`.
        """
        assert self._message is not None
        for block, pieces in zip(self._message["content"], self._pieces, strict=True):
            text = "".join(pieces)
            if block["type"] == "text":
                block["text"] = text
            elif block["type"] == "thinking":
                block["thinking"] = text
            else:
                block["input"] = from_json(text or "{}", allow_partial=True)
        return self._message

    def _add_delta(self, message: AnthropicMessage, index: int, delta: BlockDelta) -> None:
        if delta["type"] == "text_delta":
            self._pieces[index].append(delta["text"])
        elif delta["type"] == "thinking_delta":
            self._pieces[index].append(delta["thinking"])
        elif delta["type"] == "input_json_delta":
            self._pieces[index].append(delta["partial_json"])
        else:
            block = message["content"][index]
            assert block["type"] == "thinking"
            block["signature"] = delta["signature"]
