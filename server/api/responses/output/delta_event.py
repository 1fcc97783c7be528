"""Encodes the events that append text to an output item.

A stream has one of these events per token, so their constant parts are encoded only once per item.
"""

from __future__ import annotations

from typing import Literal

from pydantic_core import to_json

from server.api.generation.wire import OutputTokenLogprob

DeltaKind = Literal[
    "response.output_text.delta",
    "response.reasoning_text.delta",
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
]


class DeltaEvent:
    """Encoder of the events that append text to one item.

    Module `events` has their JSON types.
    """

    def __init__(self, kind: DeltaKind, item_id: str, output_index: int, *, in_part: bool) -> None:
        """Create the encoder.

        in_part: whether the item has content parts, as messages and thoughts do.
        """
        part = ',"content_index":0' if in_part else ""
        self._head = f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":'
        self._middle = f',"item_id":"{item_id}","output_index":{output_index}{part},"delta":'.encode()

    def encode(self, number: int, text: str) -> bytes:
        """Return the event that appends `text`."""
        return b"%b%b%b}\n\n" % (f"{self._head}{number}".encode(), self._middle, to_json(text))

    def encode_with_logprobs(self, number: int, text: str, logprobs: list[OutputTokenLogprob]) -> bytes:
        """Return the event that appends `text` to a message.

        logprobs: log-probabilities of the text's tokens; empty unless requested.
        """
        listed = to_json(logprobs) if logprobs else b"[]"
        return b'%b%b%b,"logprobs":%b}\n\n' % (f"{self._head}{number}".encode(), self._middle, to_json(text), listed)
