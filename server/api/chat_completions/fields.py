"""The body of POST /v1/chat/completions: OpenAI's fields with their ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from server.api.chat_completions.messages import ChatMessage
from server.api.chat_completions.tools import AnyFunctionChoice, AnyToolChoice, FunctionDefinition, ToolDefinition
from server.api.generation.fields import GenerationFields, unsupported
from server.api.generation.output_format import TextFormFields
from server.api.http.base_model import ApiModel, also, invalid


def _only_text(modalities: Any) -> Any:
    if modalities not in (None, [], ["text"]):
        raise invalid('This model answers in text only: modalities must be ["text"].', "unsupported_value")
    return modalities


def _cannot(value: Any) -> Any:
    if value is not None:
        raise invalid("This model can neither hear, speak nor search the web.", "unsupported_value")
    return value


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
