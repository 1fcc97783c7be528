"""The turns of a chat as a request holds them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from server.api.http.base_model import ApiModel, Tagged, also, invalid

TEXT = {"type": "string"}
PART = {
    "type": "object",
    "properties": {"type": {"enum": ["text", "refusal"]}, "text": TEXT, "refusal": TEXT},
    "required": ["type"],
}


def _text(content: Any) -> Any:
    """Content parts as one text."""
    if not isinstance(content, list):
        return content
    return "\n".join(_part_text(i, part) for i, part in enumerate(content))


def _part_text(position: int, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "refusal"):
        message = f"Content parts must be of type text: this model reads nothing else. Got {kind or part!r}."
        raise invalid(message, "unsupported_value", f"[{position}].type")
    text = part.get(kind)
    if not isinstance(text, str):
        raise invalid(f"A part of type {kind} needs its text, a string.", field=f"[{position}].{kind}")
    return text


class FunctionCall(ApiModel):
    """A function that was called."""

    name: str = Field(description="Which one.", examples=["get_weather"])
    arguments: str = Field(description="A JSON object, as a string.", examples=['{"city": "Bern"}'])


class CustomCall(ApiModel):
    """A custom tool that was called."""

    name: str = Field(description="Which one.", examples=["shell"])
    input: str = Field(description="The text for it.", examples=["ls"])


class HistoryToolCall(Tagged):
    """A call of the history, as an answer told it; `type` names the field that holds the rest."""

    id: str = Field("", description="What the result's tool_call_id repeats.", examples=["call_5f2c"])
    type: Literal["function", "custom"] = Field("function", description="A function's call if absent.")
    function: FunctionCall | None = Field(None, description="The call of a function.")
    custom: CustomCall | None = Field(None, description="The call of a custom tool.")


class ChatMessage(ApiModel):
    """A turn of the chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description="Who says it; developer is system, function the old name of tool."
    )
    content: Annotated[str | None, BeforeValidator(_text)] = Field(
        None,
        description="The text, whole or in parts; an assistant that calls tools may say nothing.",
        examples=["What is the weather in Bern?"],
        json_schema_extra=also({"type": "array", "items": PART}),
    )
    name: str | None = Field(None, description="The speaker's name, or that of the old function.", examples=["Ann"])
    refusal: str | None = Field(None, description="An assistant's refusal, where it has no content.")
    tool_calls: list[HistoryToolCall] | None = Field(None, description="What an assistant has called.")
    function_call: FunctionCall | None = Field(None, description="The old form of a single call.")
    tool_call_id: str | None = Field(None, description="Which call a tool's result belongs to.", examples=["call_5f2c"])
    reasoning_content: str | None = Field(None, description="What an assistant that thinks has thought.")

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.role != "assistant":
            for name in ("tool_calls", "function_call"):
                if getattr(self, name):
                    message = f"Only assistant messages have {name}; this one's role is {self.role}."
                    raise invalid(message, field=f".{name}")
        said = (self.content, self.refusal, self.function_call, self.tool_calls or None)
        if self.content is None and (self.role != "assistant" or all(part is None for part in said)):
            raise invalid(f"A message of role {self.role} needs content.", "missing_required_parameter", ".content")
        return self
