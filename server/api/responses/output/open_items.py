"""Builds the events and the JSON of the output item being generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from server.api.generation.calling import CustomInput
from server.api.generation.logprobs import token_logprob
from server.api.generation.wire import OutputTokenLogprob
from server.api.responses.output.delta_event import DeltaEvent
from server.api.responses.output.events import Event
from server.api.responses.output.wire import (
    OutputItem,
    ResponseCustomToolCall,
    ResponseFunctionToolCall,
    ResponseOutputText,
    ResponseReasoningItem,
    ResponseReasoningText,
)
from server.api.responses.thoughts import sealed
from server.chat.types import TokenLogprob

Status = Literal["in_progress", "completed", "incomplete"]


@dataclass(slots=True)
class OpenItem:
    """Base class of output items being generated.

    index: index of the item in the output.
    number: returns the number of the next event.
    """

    id: str
    index: int
    number: Callable[[], int]

    def item(self, status: Status) -> OutputItem:
        """Return the item as generated so far."""
        raise NotImplementedError

    def opened(self) -> Iterator[Event]:
        """Yield the events that begin the item."""
        yield {
            "type": "response.output_item.added",
            "sequence_number": self.number(),
            "output_index": self.index,
            "item": self.item("in_progress"),
        }

    def closed(self, status: Status) -> Iterator[Event]:
        """Yield the events that end the item."""
        yield {
            "type": "response.output_item.done",
            "sequence_number": self.number(),
            "output_index": self.index,
            "item": self.item(status),
        }

    def _part(self, stage: Literal["added", "done"], part: ResponseOutputText | ResponseReasoningText) -> Event:
        kind: Literal["response.content_part.added", "response.content_part.done"] = (
            "response.content_part.added" if stage == "added" else "response.content_part.done"
        )
        return {
            "type": kind,
            "sequence_number": self.number(),
            "item_id": self.id,
            "output_index": self.index,
            "content_index": 0,
            "part": part,
        }


@dataclass(slots=True)
class OpenMessage(OpenItem):
    """A message of the assistant."""

    text: list[str] = field(default_factory=list)
    logprobs: list[OutputTokenLogprob] = field(default_factory=list)
    begun: bool = False
    delta: DeltaEvent = field(init=False)

    def __post_init__(self) -> None:
        self.delta = DeltaEvent("response.output_text.delta", self.id, self.index, in_part=True)

    def item(self, status: Status) -> OutputItem:
        """Return the message as generated so far."""
        content = [self._text()] if self.begun else []
        return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}

    def opened(self) -> Iterator[Event]:
        """Yield the events that begin the message."""
        yield from OpenItem.opened(self)
        self.begun = True
        yield self._part("added", self._text())

    def add(self, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """Append text and return its encoded event."""
        added = [token_logprob(entry) for entry in logprobs]
        self.text.append(text)
        self.logprobs += added
        return self.delta.encode_with_logprobs(self.number(), text, added)

    def closed(self, status: Status) -> Iterator[Event]:
        """Yield the events that end the message."""
        whole = self._text()
        yield {
            "type": "response.output_text.done",
            "sequence_number": self.number(),
            "item_id": self.id,
            "output_index": self.index,
            "content_index": 0,
            "text": whole["text"],
            "logprobs": whole["logprobs"],
        }
        yield self._part("done", whole)
        yield from OpenItem.closed(self, status)

    def _text(self) -> ResponseOutputText:
        return {"type": "output_text", "text": "".join(self.text), "annotations": [], "logprobs": self.logprobs.copy()}


@dataclass(slots=True)
class OpenReasoning(OpenItem):
    """Thoughts.

    with_sealed: whether the item has `encrypted_content`.
    """

    with_sealed: bool = False
    text: list[str] = field(default_factory=list)
    begun: bool = False
    delta: DeltaEvent = field(init=False)

    def __post_init__(self) -> None:
        self.delta = DeltaEvent("response.reasoning_text.delta", self.id, self.index, in_part=True)

    def item(self, status: Status) -> OutputItem:
        """Return the thoughts as generated so far."""
        content = [self._text()] if self.begun else []
        item: ResponseReasoningItem = {
            "id": self.id, "type": "reasoning", "status": status, "summary": [], "content": content,
        }  # fmt: skip
        if self.with_sealed and status != "in_progress":
            item["encrypted_content"] = sealed("".join(self.text))
        return item

    def opened(self) -> Iterator[Event]:
        """Yield the events that begin the thoughts."""
        yield from OpenItem.opened(self)
        self.begun = True
        yield self._part("added", self._text())

    def add(self, text: str) -> bytes:
        """Append text and return its encoded event."""
        self.text.append(text)
        return self.delta.encode(self.number(), text)

    def closed(self, status: Status) -> Iterator[Event]:
        """Yield the events that end the thoughts."""
        whole = self._text()
        yield {
            "type": "response.reasoning_text.done",
            "sequence_number": self.number(),
            "item_id": self.id,
            "output_index": self.index,
            "content_index": 0,
            "text": whole["text"],
        }
        yield self._part("done", whole)
        yield from OpenItem.closed(self, status)

    def _text(self) -> ResponseReasoningText:
        return {"type": "reasoning_text", "text": "".join(self.text)}


@dataclass(slots=True)
class OpenCall(OpenItem):
    """A function call.

    namespace: name of the function's namespace; None if it has none.
    text: pieces of the arguments so far.
    """

    call_id: str
    name: str
    namespace: str | None
    text: list[str] = field(default_factory=list)
    delta: DeltaEvent = field(init=False)

    def __post_init__(self) -> None:
        self.delta = DeltaEvent("response.function_call_arguments.delta", self.id, self.index, in_part=False)

    def item(self, status: Status) -> OutputItem:
        """Return the call as generated so far."""
        item: ResponseFunctionToolCall = {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": "".join(self.text),
        }
        if self.namespace is not None:
            item["namespace"] = self.namespace
        return item

    def add(self, arguments: str) -> bytes | None:
        """Append a piece of the arguments and return its encoded event."""
        self.text.append(arguments)
        return self.delta.encode(self.number(), arguments)

    def closed(self, status: Status) -> Iterator[Event]:
        """Yield the events that end the call."""
        yield {
            "type": "response.function_call_arguments.done",
            "sequence_number": self.number(),
            "item_id": self.id,
            "output_index": self.index,
            "name": self.name,
            "arguments": "".join(self.text),
        }
        yield from OpenItem.closed(self, status)


@dataclass(slots=True)
class OpenCustomCall(OpenCall):
    """A custom tool call.

    text: pieces of the input so far.
    """

    decoder: CustomInput = field(default_factory=CustomInput)

    def __post_init__(self) -> None:
        self.delta = DeltaEvent("response.custom_tool_call_input.delta", self.id, self.index, in_part=False)

    def item(self, status: Status) -> OutputItem:
        """Return the call as generated so far."""
        item: ResponseCustomToolCall = {
            "id": self.id,
            "type": "custom_tool_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "input": "".join(self.text),
        }
        if self.namespace is not None:
            item["namespace"] = self.namespace
        return item

    def add(self, arguments: str) -> bytes | None:
        """Decode a piece of the arguments and return the event with the new input.

        Returns None if the piece adds no character to the input.
        """
        text = self.decoder.feed(arguments)
        if not text:
            return None
        self.text.append(text)
        return self.delta.encode(self.number(), text)

    def closed(self, status: Status) -> Iterator[Event]:
        """Yield the events that end the call."""
        yield {
            "type": "response.custom_tool_call_input.done",
            "sequence_number": self.number(),
            "item_id": self.id,
            "output_index": self.index,
            "input": "".join(self.text),
        }
        yield from OpenItem.closed(self, status)
