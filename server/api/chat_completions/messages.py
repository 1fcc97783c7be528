"""The messages of a chat request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from server.api.http.base_model import ApiModel, Tagged, also, invalid, null_as
from server.errors import shown

TEXT = {"type": "string"}
PART = {
    "type": "object",
    "properties": {"type": {"enum": ["text", "refusal"]}, "text": TEXT, "refusal": TEXT},
    "required": ["type"],
}


def _text(content: Any) -> Any:
    """Join the texts of content parts with line breaks.

    Content that is not a list is returned unchanged.
    """
    if not isinstance(content, list):
        return content
    return "\n".join(_part_text(i, part) for i, part in enumerate(content))


def _part_text(position: int, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "refusal"):
        message = (
            f"Content parts must have type text, the only type that this model supports; got {_shown(kind or part)}."
        )
        raise invalid(message, "unsupported_value", f"[{position}].type")
    text = part.get(kind)
    if not isinstance(text, str):
        raise invalid(f"A content part of type {kind} requires the string field {kind}.", field=f"[{position}].{kind}")
    return text


def _shown(value: Any) -> str:
    return shown(repr(value))


class FunctionCall(ApiModel):
    """A function call."""

    name: str = Field(description="Name of the function.", examples=["get_weather"])
    arguments: str | None = Field(
        None,
        description="Text of a JSON object with the arguments. It may be incomplete if the answer was cut off. By "
        "default, there are no arguments.",
        examples=['{"city": "Bern"}'],
    )


class CustomCall(ApiModel):
    """A custom tool call."""

    name: str = Field(description="Name of the tool.", examples=["shell"])
    input: str = Field(description="Input text of the tool.", examples=["ls"])


class HistoryToolCall(Tagged):
    """A tool call in an earlier answer. `type` names the field that holds the call."""

    id: Annotated[str, null_as("")] = Field(
        "", description="ID of the call, repeated in the `tool_call_id` of its result.", examples=["call_5f2c"]
    )
    type: Annotated[Literal["function", "custom"], null_as("function")] = Field(
        "function", description="Kind of the call; `function` by default."
    )
    function: FunctionCall | None = Field(None, description="The function call.")
    custom: CustomCall | None = Field(None, description="The custom tool call.")


class ChatMessage(ApiModel):
    """A message of the chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description="Author of the message. `developer` means `system`; `function` is the deprecated name of `tool`."
    )
    content: Annotated[str | None, BeforeValidator(_text)] = Field(
        None,
        description="Text, as a string or as parts. Optional for assistant messages with calls or thoughts.",
        examples=["What is the weather in Bern?"],
        json_schema_extra=also({"type": "array", "items": PART}),
    )
    name: str | None = Field(
        None, description="Name of the author, or of the called function if the role is `function`.", examples=["Ann"]
    )
    refusal: str | None = Field(None, description="Refusal of an assistant, used if there is no content.")
    tool_calls: list[HistoryToolCall] | None = Field(None, description="Tool calls of an assistant.")
    function_call: FunctionCall | None = Field(None, description="Deprecated form of a single call.")
    tool_call_id: str | None = Field(
        None, description="ID of the call that this tool result answers.", examples=["call_5f2c"]
    )
    reasoning_content: str | None = Field(None, description="Thoughts of an assistant, for reasoning models.")
    reasoning: str | None = Field(None, description="Another name of `reasoning_content`, as in vLLM.")

    @property
    def thoughts(self) -> str | None:
        """Thoughts of the assistant; None if there are none."""
        return self.reasoning_content or self.reasoning or None

    @model_validator(mode="after")
    def _has_content(self) -> ChatMessage:
        if self.role != "assistant":
            for name in ("tool_calls", "function_call"):
                if getattr(self, name):
                    message = f"Only assistant messages may have {name}; the role of this message is {self.role}."
                    raise invalid(message, field=f".{name}")
        said = (self.refusal, self.function_call, self.tool_calls or None, self.thoughts)
        if self.content is None and (self.role != "assistant" or all(part is None for part in said)):
            required = "content"
            if self.role == "assistant":
                required = "content, refusal, tool_calls, function_call or reasoning_content"
            message = f"A message with role {self.role} requires {required}."
            raise invalid(message, "missing_required_parameter", ".content")
        return self
