"""What a request may hold: OpenAI's fields with their ranges. Null means absent, unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from server.api.tool_schemas import (
    AnyFunctionChoice,
    AnyToolChoice,
    FunctionDefinition,
    ResponseFormat,
    Tagged,
    ToolDefinition,
)
from server.api.validation import ApiModel, invalid

MAX_CHOICES = 8
MAX_STOPS = 4


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


def unsupported(name: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        if value is not None:
            raise invalid(f"{name} is not supported.", "unsupported_value")
        return value

    return refuse


def _only_text(modalities: Any) -> Any:
    if modalities not in (None, [], ["text"]):
        raise invalid('This model answers in text only: modalities must be ["text"].', "unsupported_value")
    return modalities


def _cannot(value: Any) -> Any:
    if value is not None:
        raise invalid("This model can neither hear, speak nor search the web.", "unsupported_value")
    return value


class FunctionCall(ApiModel):
    name: str
    arguments: str = Field(description="A JSON object, as a string.")


class CustomCall(ApiModel):
    name: str
    input: str


class HistoryToolCall(Tagged):
    id: str = ""
    type: Literal["function", "custom"] = "function"
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class ChatMessage(ApiModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str | None, BeforeValidator(_text)] = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[HistoryToolCall] | None = None
    function_call: FunctionCall | None = Field(None, description="The old form of a single call.")
    tool_call_id: str | None = None
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


class StreamOptions(ApiModel):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationFields(ApiModel):
    """What chats and text completions have in common."""

    model: str | None = Field(None, description="A served model's id; the only one if absent.")
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
    stop_token_ids: list[int] | None = Field(None, description="Tokens that end the answer besides the model's own.")
    min_tokens: int | None = Field(None, ge=0, description="Before these the answer does not end by itself.")
    ignore_eos: bool | None = Field(None, description="Go on to the limit.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _generation_fields_agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true.", field="stream_options")
        for token in self.logit_bias or {}:
            if not token.isdecimal():
                raise invalid(f"logit_bias goes from token ids to numbers; {token!r} is no id.", field="logit_bias")
        return self


class ChatCompletionRequest(GenerationFields):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, description="Up to the context's end if absent.")
    max_tokens: int | None = Field(None, ge=1, description="The old name of max_completion_tokens.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: AnyToolChoice = Field(None, description="auto if there are tools; required and named are enforced.")
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call.")
    functions: list[FunctionDefinition] | None = Field(None, description="The old form of tools.")
    function_call: AnyFunctionChoice = Field(None, description="The old form of tool_choice.")
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Variables for the model's template.")
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = Field(None, description="Go on with the last message; no new turn.")
    typical_p: Annotated[Any, BeforeValidator(unsupported("typical_p"))] = None
    modalities: Annotated[Any, BeforeValidator(_only_text)] = None
    audio: Annotated[Any, BeforeValidator(_cannot)] = None
    web_search_options: Annotated[Any, BeforeValidator(_cannot)] = None

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatCompletionRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs needs logprobs: true.", field="top_logprobs")
        if self.tools and self.functions:
            raise invalid("functions is the old form of tools: send one of them.", field="functions")
        if self.function_call is not None and not self.functions:
            raise invalid("function_call needs functions.", field="function_call")
        if self.tool_choice is not None and self.tool_choice.type != "none" and not self.tools:
            raise invalid("tool_choice needs tools.", field="tool_choice")
        self._check_names("tool_choice", self.tool_choice.names if self.tool_choice else None)
        named = self.function_call.name if self.function_call else None
        self._check_names("function_call", [named] if named else None)
        if self.continue_final_message and self.add_generation_prompt:
            message = "continue_final_message goes on with the last message: add_generation_prompt cannot be true."
            raise invalid(message, field="continue_final_message")
        return self

    def _check_names(self, field: str, names: list[str] | None) -> None:
        known = [tool.name for tool in self.tools or ()] + [function.name for function in self.functions or ()]
        for name in names or ():
            if name not in known:
                raise invalid(f"{field} names {name!r}, which is not among the tools: {', '.join(known)}.", field=field)
