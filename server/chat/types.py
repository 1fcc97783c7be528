"""What a chat is made of, before any template or token: requests in, deltas out. Knows no HTTP and no JSON shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from server.engine.types import SamplingParams

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in the history; `arguments` is JSON text as the client sent it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Only an assistant's has `tool_calls`, only a tool's has `tool_call_id`."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is its JSON schema, verbatim."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]

    @property
    def properties(self) -> tuple[str, ...]:
        """The names of the arguments, in the schema's order."""
        properties = self.parameters.get("properties")
        return tuple(properties) if isinstance(properties, Mapping) else ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to answer `n` times. `max_tokens` None is up to the context's end; choice i is drawn with `seed` + i."""

    messages: tuple[Message, ...]
    sampling: SamplingParams
    tools: tuple[Tool, ...] = ()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1


class ChoiceEnd(StrEnum):
    """OpenAI's finish_reason."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as it is shown: `data` are its bytes, which may be half a character."""

    data: bytes
    logprob: float

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with the most likely ones in its place."""

    token: TokenText
    top: tuple[TokenText, ...]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A call that the model has closed; `index` counts the calls of its choice, `arguments` is a JSON object."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Delta:
    """What a choice has gained; the last one of a choice has `end`."""

    content: str = ""
    tool_call: ToolCallDelta | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=())
    end: ChoiceEnd | None = None
