"""Adds up the events of a streamed answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Piece = tuple[Literal["thoughts", "text"], str]


@dataclass(slots=True)
class Call:
    """A tool call, with its arguments as JSON text."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """The part of an answer received so far. Times are seconds of `time.perf_counter`.

    first: when the first thoughts, text or call arrived; None until then.
    last: when the latest of these arrived; 0 until then.
    """

    sent: float = field(default_factory=time.perf_counter)
    first: float | None = None
    last: float = 0
    text: str = ""
    calls: list[Call] = field(default_factory=list)
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    def take(self, event: dict[str, Any]) -> Iterator[Piece]:
        """Record an event, and yield its pieces of thoughts and text."""
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            delta = choice.get("delta") or {}
            thoughts, text = delta.get("reasoning_content"), delta.get("content")
            calls = delta.get("tool_calls") or ()
            if thoughts or text or calls:
                self.last = time.perf_counter()
                self.first = self.first or self.last
            if thoughts:
                yield "thoughts", thoughts
            if text:
                self.text += text
                yield "text", text
            for part in calls:
                self._extend_call(part)

    def _extend_call(self, part: dict[str, Any]) -> None:
        while len(self.calls) <= part["index"]:
            self.calls.append(Call())
        call, function = self.calls[part["index"]], part.get("function") or {}
        call.id = part.get("id") or call.id
        call.name += function.get("name") or ""
        call.arguments += function.get("arguments") or ""

    def message(self) -> dict[str, Any]:
        """Return the answer as a message of the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        return message
