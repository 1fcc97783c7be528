"""Builds the requests of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """The messages so far, and the user's options for all requests.

    tools: definitions in OpenAI's form.
    schema: JSON schema that answers must match; None for free text.
    """

    model: str
    system: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    messages: list[Message] = field(default_factory=list)

    def request(self, turn: Sequence[Message] = ()) -> dict[str, Any]:
        """Return the body of a request.

        turn: messages to add after the conversation.
        """
        system = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {"model": self.model, "messages": [*system, *self.messages, *turn]}
        if self.tools:
            body["tools"] = self.tools
        if self.schema is not None:
            json_schema = {"name": "answer", "schema": self.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": json_schema}
        return body
