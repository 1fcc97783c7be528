"""Converts tool calls to OpenAI's JSON.

Handles calls of functions and custom tools, and the deprecated form `function_call`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.wire import (
    ChatCompletionMessage,
    ChatCompletionMessageToolCall,
    ChatFinishReason,
    ChoiceDelta,
)
from server.api.generation.calling import CustomInput, custom_input
from server.chat.types import ChoiceEnd, ToolCallDelta

FINISH_REASONS: dict[ChoiceEnd, ChatFinishReason] = {
    ChoiceEnd.STOP: "stop",
    ChoiceEnd.LENGTH: "length",
    ChoiceEnd.TOOL_CALLS: "tool_calls",
}


@dataclass(slots=True)
class AssembledCall:
    """A tool call as generated so far.

    arguments: JSON text of the arguments.
    input: decodes a custom tool's input: `{"input": "ls"}` -> `ls`.
    """

    id: str
    name: str
    arguments: str = ""
    input: CustomInput = field(default_factory=CustomInput)


@dataclass(slots=True)
class CallAssembler:
    """Assembles the tool calls of one choice.

    custom: names of the custom tools.
    legacy: whether to return `function_call` instead of `tool_calls`.
    """

    custom: frozenset[str]
    legacy: bool
    calls: list[AssembledCall] = field(default_factory=list)

    @classmethod
    def of(cls, body: ChatCompletionRequest) -> CallAssembler:
        """Return an assembler for one choice of the request `body`."""
        return cls(frozenset(t.name for t in body.tools or () if t.type == "custom"), bool(body.functions))

    def add(self, delta: ToolCallDelta) -> ChoiceDelta:
        """Append a part of a call and return it in OpenAI's JSON.

        Returns an empty object if there is nothing to send yet.
        """
        if delta.id is not None and delta.name is not None:
            self.calls.append(AssembledCall(delta.id, delta.name))
            return self._opened(delta.index, delta.id, delta.name)
        call = self.calls[delta.index]
        call.arguments += delta.arguments
        if self.legacy:
            return {"function_call": {"arguments": delta.arguments}}
        if call.name in self.custom:
            text = call.input.feed(delta.arguments)
            return {"tool_calls": [{"index": delta.index, "custom": {"input": text}}]} if text else {}
        return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.arguments}}]}

    def put_into(self, message: ChatCompletionMessage) -> None:
        """Add all calls to a complete message."""
        if self.calls and self.legacy:
            message["function_call"] = {"name": self.calls[0].name, "arguments": self.calls[0].arguments}
        elif self.calls:
            message["tool_calls"] = [self._whole(call) for call in self.calls]

    def finish_reason(self, end: ChoiceEnd) -> ChatFinishReason:
        """Return OpenAI's finish_reason for `end`."""
        return "function_call" if self.legacy and end is ChoiceEnd.TOOL_CALLS else FINISH_REASONS[end]

    def _opened(self, index: int, id: str, name: str) -> ChoiceDelta:
        if self.legacy:
            return {"function_call": {"name": name, "arguments": ""}}
        if name in self.custom:
            return {"tool_calls": [{"index": index, "id": id, "type": "custom", "custom": {"name": name, "input": ""}}]}
        return {
            "tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]
        }

    def _whole(self, call: AssembledCall) -> ChatCompletionMessageToolCall:
        if call.name not in self.custom:
            return {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": custom_input(call.arguments)}}
