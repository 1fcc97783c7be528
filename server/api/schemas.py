"""What a request may hold: OpenAI's fields with their ranges. Null means absent, unknown fields are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_CHOICES = 8
MAX_STOPS = 4


def invalid(message: str, code: str = "invalid_value", field: str = "") -> PydanticCustomError:
    """A validator's complaint; `field` is where below the validated value it lies, as in `.content`."""
    return PydanticCustomError(code, "{message}", {"message": message, "field": field})


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


def _stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _only_text(modalities: Any) -> Any:
    if modalities not in (None, [], ["text"]):
        raise invalid('This model answers in text only: modalities must be ["text"].', "unsupported_value")
    return modalities


def _cannot(value: Any) -> Any:
    if value is not None:
        raise invalid("This model can neither hear, speak nor search the web.", "unsupported_value")
    return value


class ApiModel(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class FunctionCall(ApiModel):
    name: str
    arguments: str = Field(description="A JSON object, as a string.")


class HistoryToolCall(ApiModel):
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(ApiModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str | None, BeforeValidator(_text)] = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[HistoryToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.tool_calls and self.role != "assistant":
            raise invalid(
                f"Only assistant messages have tool_calls; this one's role is {self.role}.", field=".tool_calls"
            )
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.refusal is not None)):
            raise invalid(f"A message of role {self.role} needs content.", "missing_required_parameter", ".content")
        return self


class FunctionDefinition(ApiModel):
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema; without one there are no arguments.")


class ToolDefinition(ApiModel):
    type: Literal["function"]
    function: FunctionDefinition


class StreamOptions(ApiModel):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ResponseFormat(ApiModel):
    type: Literal["text"]


class ChatCompletionRequest(ApiModel):
    """The body of POST /v1/chat/completions."""

    model: str | None = Field(None, description="A served model's id; the only one if absent.")
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, description="Up to the context's end if absent.")
    max_tokens: int | None = Field(None, ge=1, description="The old name of max_completion_tokens.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, description="0 is off.")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None, Field(max_length=MAX_STOPS), BeforeValidator(_stops)
    ] = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    modalities: Annotated[Any, BeforeValidator(_only_text)] = None
    audio: Annotated[Any, BeforeValidator(_cannot)] = None
    web_search_options: Annotated[Any, BeforeValidator(_cannot)] = None

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatCompletionRequest:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true.", field="stream_options")
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs needs logprobs: true.", field="top_logprobs")
        if self.tool_choice == "auto" and not self.tools:
            raise invalid("tool_choice needs tools.", field="tool_choice")
        for token in self.logit_bias or {}:
            if not token.isdecimal():
                raise invalid(f"logit_bias goes from token ids to numbers; {token!r} is no id.", field="logit_bias")
        return self
