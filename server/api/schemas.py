"""What a request may hold: OpenAI's fields with their ranges. Null means absent, unknown fields are ignored."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from server.api.message_schemas import ChatMessage
from server.api.text_forms import TextFormFields
from server.api.tool_schemas import (
    AnyFunctionChoice,
    AnyToolChoice,
    FunctionDefinition,
    ToolDefinition,
)
from server.api.validation import ApiModel, also, invalid

MAX_CHOICES = 128  # OpenAI's; a server's own limit is lower
MAX_STOPS = 4
MAX_SHOWN = 1000  # characters of unknown fields' names in the log

logger = logging.getLogger(__name__)


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


TOKEN_ID = re.compile("^[0-9]{1,9}$")
TokenId = Annotated[str, Field(json_schema_extra={"pattern": TOKEN_ID.pattern})]


class StreamOptions(ApiModel):
    """What a stream tells besides its text."""

    include_usage: bool | None = Field(None, description="A last chunk, of no choice, with the usage.")
    continuous_usage_stats: bool | None = Field(None, description="The usage so far in every chunk.")


Label = Annotated[str, Field(min_length=1, max_length=256)]


class AcceptedFields(ApiModel):
    """Fields of OpenAI's that change nothing on a server of one model that keeps nothing."""

    user: str | None = Field(None, description="Changes nothing.", examples=["ann"])
    safety_identifier: str | None = Field(None, description="Changes nothing.", examples=["ann"])
    prompt_cache_key: str | None = Field(
        None, description="A hint for load balancers; this server finds prefixes by itself.", examples=["chat-7"]
    )
    prompt_cache_retention: str | None = Field(None, description="Changes nothing.", examples=["24h"])
    service_tier: str | None = Field(None, description="Changes nothing.", examples=["auto"])
    store: bool | None = Field(None, description="Nothing is stored.", examples=[False])
    metadata: dict[str, Any] | None = Field(None, description="Changes nothing.", examples=[{}])
    prediction: dict[str, Any] | None = Field(None, description="Changes nothing.")
    reasoning_effort: str | None = Field(None, description="Changes nothing.", examples=["low"])
    verbosity: str | None = Field(None, description="Changes nothing.", examples=["low"])


class GenerationFields(ApiModel):
    """What chats and text completions have in common."""

    model: str | None = Field(None, description="A served model's id; the only one if absent.", examples=["lfm2-demo"])
    temperature: float | None = Field(
        None, ge=0, le=2, description="How freely tokens are drawn; 0 always takes the likeliest.", examples=[0.3]
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="Draw from the likeliest tokens that make up this share.", examples=[0.9]
    )
    top_k: int | None = Field(None, ge=0, description="Draw from so many of the likeliest; 0 is off.", examples=[40])
    min_p: float | None = Field(
        None, ge=0, le=1, description="Leave out what is less likely than this share of the likeliest.", examples=[0.15]
    )
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=10, description="Makes tokens of prompt and answer less likely; 1 is off.", examples=[1.05]
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Taken off a token's logit for each time the answer holds it.", examples=[0.0]
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Taken off a token's logit once the answer holds it.", examples=[0.0]
    )
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, description="Added to the logits of tokens, by their ids.", examples=[{"42": -100}]
    )
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="The same seed, request and server: the same answer.", examples=[7]
    )
    n: int | None = Field(None, ge=1, le=MAX_CHOICES, description="So many choices; 1 if absent.", examples=[1])
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None, Field(max_length=MAX_STOPS), BeforeValidator(_stops)
    ] = Field(
        None,
        description="The answer ends before the first of these; one may be sent as it is.",
        examples=[["\n\n"]],
        json_schema_extra=also({"type": "string", "minLength": 1}),
    )
    stop_token_ids: list[int] | None = Field(
        None, description="Tokens that end the answer besides the model's own.", examples=[[7]]
    )
    min_tokens: int | None = Field(
        None, ge=0, description="Before these the answer does not end by itself.", examples=[0]
    )
    ignore_eos: bool | None = Field(None, description="Go on to the limit.", examples=[False])
    skip_special_tokens: bool | None = Field(
        None, description="Special tokens have no text, if absent or true.", examples=[True]
    )
    return_token_ids: bool | None = Field(
        None, description="Tell the ids of the prompt's and the answer's tokens.", examples=[False]
    )
    priority: int | None = Field(
        None,
        ge=-(2**31),
        lt=2**31,
        description="Of one sender's requests that wait, the lowest goes first; 0 if absent.",
        examples=[0],
    )
    cache_salt: Label | None = Field(
        None, description="Cached prompts are shared only with requests of the same salt.", examples=["team-7"]
    )
    stream: bool | None = Field(None, description="Answer with events as the text is written.", examples=[False])
    stream_options: StreamOptions | None = Field(None, description="Needs stream: true.")

    @model_validator(mode="before")
    @classmethod
    def _tell_of_unknown_fields(cls, body: Any) -> Any:
        unknown = sorted(body.keys() - cls.model_fields.keys()) if isinstance(body, dict) else []
        if unknown:
            logger.debug("Fields that nobody knows are ignored: %.*s.", MAX_SHOWN, json.dumps(unknown))
        return body

    @model_validator(mode="after")
    def _generation_fields_agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true.", field="stream_options")
        for token in self.logit_bias or {}:
            if not TOKEN_ID.fullmatch(token):
                message = f"logit_bias goes from token ids to numbers; {token[:40]!r} is no id."
                raise invalid(message, field="logit_bias")
        return self


class ChatCompletionRequest(GenerationFields, TextFormFields, AcceptedFields):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, description="The chat so far.")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="The answer's limit; up to the context's end if absent.", examples=[200]
    )
    max_tokens: int | None = Field(None, ge=1, description="The old name of max_completion_tokens.", examples=[200])
    logprobs: bool | None = Field(None, description="Tell how likely each token was.", examples=[False])
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="And so many of the likeliest in its place; needs logprobs.", examples=[3]
    )
    tools: list[ToolDefinition] | None = Field(None, description="What the model may call.")
    tool_choice: AnyToolChoice = Field(
        None,
        description="auto if there are tools; required and named are enforced.",
        examples=["auto"],
        json_schema_extra=also({"type": "string", "enum": ["none", "auto", "required"]}),
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call.", examples=[True])
    functions: list[FunctionDefinition] | None = Field(None, description="The old form of tools.")
    function_call: AnyFunctionChoice = Field(
        None,
        description="The old form of tool_choice.",
        json_schema_extra=also({"type": "string", "enum": ["none", "auto"]}),
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables for the model's template.", examples=[{}]
    )
    add_generation_prompt: bool | None = Field(
        None, description="Open the assistant's turn; true if absent.", examples=[True]
    )
    continue_final_message: bool | None = Field(
        None, description="Go on with the last message; no new turn.", examples=[False]
    )
    add_special_tokens: bool | None = Field(
        None, description="The model's BOS in front, where the template has none; false if absent.", examples=[False]
    )
    return_progress: bool | None = Field(
        None, description="In a stream, chunks with prompt_progress while the prompt is read.", examples=[False]
    )
    typical_p: Annotated[None, BeforeValidator(unsupported("typical_p"))] = Field(None, description="Not supported.")
    modalities: Annotated[list[Literal["text"]] | None, BeforeValidator(_only_text)] = Field(
        None, description="Text is all there is."
    )
    audio: Annotated[None, BeforeValidator(_cannot)] = Field(None, description="Not supported.")
    web_search_options: Annotated[None, BeforeValidator(_cannot)] = Field(None, description="Not supported.")

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
