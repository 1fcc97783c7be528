"""The forms in which OpenAI tells of a call: a function's, a custom tool's, and the old function_call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from server.api.chat_completions.fields import ChatCompletionRequest
from server.api.chat_completions.to_chat_request import CUSTOM_ARGUMENT
from server.chat.types import ChoiceEnd, ToolCallDelta


@dataclass(slots=True)
class WrittenCall:
    """A call as far as it has been written; `arguments` is a JSON object or its beginning."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class CallForms:
    """Tells of the calls of one choice. `custom` are the names of custom tools; `old`: function_call was asked for."""

    custom: frozenset[str]
    old: bool
    calls: list[WrittenCall] = field(default_factory=list)

    @classmethod
    def of(cls, asked: ChatCompletionRequest) -> CallForms:
        """As a request asks for them."""
        return cls(frozenset(t.name for t in asked.tools or () if t.type == "custom"), bool(asked.functions))

    def add(self, delta: ToolCallDelta) -> dict[str, Any]:
        """Take in what a call has gained; returns the fields of the stream's delta that tell of it, perhaps none."""
        if delta.id is not None and delta.name is not None:
            self.calls.append(WrittenCall(delta.id, delta.name))
            return self._opened(delta)
        call = self.calls[delta.index]
        call.arguments += delta.arguments
        if self.old:
            return {"function_call": {"arguments": delta.arguments}}
        if call.name in self.custom:
            return self._custom_input(delta.index, call)
        return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.arguments}}]}

    def message_fields(self) -> dict[str, Any]:
        """The fields of a whole message that tell of its calls."""
        if not self.calls:
            return {}
        if self.old:
            return {"function_call": {"name": self.calls[0].name, "arguments": self.calls[0].arguments}}
        return {"tool_calls": [self._whole(call) for call in self.calls]}

    def end(self, end: ChoiceEnd | None) -> str | None:
        """The finish_reason."""
        return "function_call" if self.old and end is ChoiceEnd.TOOL_CALLS else end

    def _opened(self, delta: ToolCallDelta) -> dict[str, Any]:
        if self.old:
            return {"function_call": {"name": delta.name, "arguments": ""}}
        if delta.name in self.custom:
            opened = {"type": "custom", "custom": {"name": delta.name, "input": ""}}
        else:
            opened = {"type": "function", "function": {"name": delta.name, "arguments": ""}}
        return {"tool_calls": [{"index": delta.index, "id": delta.id, **opened}]}

    def _custom_input(self, index: int, call: WrittenCall) -> dict[str, Any]:
        """A custom tool's text comes at once, when it is complete."""
        if not call.arguments.endswith("}"):
            return {}
        try:
            text = json.loads(call.arguments)[CUSTOM_ARGUMENT]
        except ValueError:
            return {}
        return {"tool_calls": [{"index": index, "custom": {"input": text}}]}

    def _whole(self, call: WrittenCall) -> dict[str, Any]:
        if call.name not in self.custom:
            function = {"name": call.name, "arguments": call.arguments}
            return {"id": call.id, "type": "function", "function": function}
        try:
            text = json.loads(call.arguments)[CUSTOM_ARGUMENT]
        except (ValueError, LookupError):
            text = ""  # cut before it was complete
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}
