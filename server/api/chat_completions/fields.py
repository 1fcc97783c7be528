"""The request body of POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from server.api.chat_completions.messages import ChatMessage
from server.api.chat_completions.tools import (
    AnyFunctionChoice,
    AnyToolChoice,
    FunctionChoice,
    FunctionDefinition,
    ToolChoice,
    ToolDefinition,
)
from server.api.generation.calling import ParallelField
from server.api.generation.fields import GenerationFields
from server.api.generation.output_format import TextFormFields
from server.api.generation.template_fields import TemplateFields
from server.api.generation.thinking import EffortField, ThinkingFields
from server.api.http.base_model import ApiModel, also, invalid
from server.errors import shown


def _only_text(modalities: Any) -> Any:
    if modalities not in (None, [], ["text"]):
        raise invalid('This model generates text only: modalities must be ["text"].', "unsupported_value")
    return modalities


def _text_only(value: Any) -> Any:
    if value is not None:
        raise invalid(
            "audio and web_search_options are not supported: this model reads and writes text only.",
            "unsupported_value",
        )
    return value


class AcceptedFields(ApiModel):
    """OpenAI fields that are accepted but have no effect on this server."""

    user: str | None = Field(None, description="Accepted; no effect.", examples=["ann"])
    safety_identifier: str | None = Field(None, description="Accepted; no effect.", examples=["ann"])
    prompt_cache_key: str | None = Field(
        None, description="Hint for load balancers. The server's prefix cache does not need it.", examples=["chat-7"]
    )
    prompt_cache_retention: str | None = Field(None, description="Accepted; no effect.", examples=["24h"])
    service_tier: str | None = Field(None, description="Accepted; no effect.", examples=["auto"])
    store: bool | None = Field(None, description="Accepted; the server stores nothing.", examples=[False])
    metadata: dict[str, Any] | None = Field(None, description="Accepted; no effect.", examples=[{}])
    prediction: dict[str, Any] | None = Field(None, description="Accepted; no effect.")
    verbosity: str | None = Field(None, description="Accepted; no effect.", examples=["low"])


class ChatCompletionRequest(GenerationFields, TextFormFields, TemplateFields, ThinkingFields, AcceptedFields):
    """The request body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, description="Messages of the chat, oldest first.")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="Maximum tokens to generate; by default up to the end of the context.", examples=[200]
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Deprecated name of `max_completion_tokens`.", examples=[200]
    )
    logprobs: bool | None = Field(None, description="Return the log-probability of each token.", examples=[False])
    top_logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Number of most likely tokens to return at each position. Requires `logprobs`.",
        examples=[3],
    )
    tools: list[ToolDefinition] | None = Field(None, description="Tools that the model may call.")
    tool_choice: AnyToolChoice = None
    parallel_tool_calls: ParallelField = None
    functions: list[FunctionDefinition] | None = Field(None, description="Deprecated form of `tools`.")
    function_call: AnyFunctionChoice = Field(
        None,
        description="Deprecated form of `tool_choice`.",
        json_schema_extra=also({"type": "string", "enum": ["none", "auto"]}),
    )
    return_progress: bool | None = Field(
        None, description="In a stream, send chunks with `prompt_progress` during prefill.", examples=[False]
    )
    reasoning_effort: EffortField = None
    modalities: Annotated[list[Literal["text"]] | None, BeforeValidator(_only_text)] = Field(
        None, description="Only text is supported."
    )
    audio: Annotated[None, BeforeValidator(_text_only)] = Field(None, description="Not supported.")
    web_search_options: Annotated[None, BeforeValidator(_text_only)] = Field(None, description="Not supported.")

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatCompletionRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs requires logprobs: true.", field="top_logprobs")
        if self.tools and self.functions:
            raise invalid("functions is the deprecated form of tools: send only one of them.", field="functions")
        self._check_choice("function_call", "functions", self.function_call, self.functions)
        self._check_choice("tool_choice", "tools", self.tool_choice, self.tools)
        self._check_names("tool_choice", self.tool_choice.names if self.tool_choice else None)
        named = self.function_call.name if self.function_call else None
        self._check_names("function_call", [named] if named else None)
        if self.continue_final_message and self.add_generation_prompt:
            message = "continue_final_message and add_generation_prompt cannot both be true."
            raise invalid(message, field="continue_final_message")
        return self

    def _check_choice(
        self, field: str, requires: str, choice: ToolChoice | FunctionChoice | None, tools: Sequence[Any] | None
    ) -> None:
        """Check that the request has the tools that `choice` requires.

        `none` requires no tools. `auto` requires a list of tools, which may be empty. Other choices require at least
        one tool.

        field: name of the request field with the choice, such as "function_call".
        requires: name of the request field with the tools, such as "functions".
        """
        if choice is None or tools or choice.type == "none" or (tools is not None and choice.type == "auto"):
            return
        raise invalid(f"{field} requires {requires}.", field=field)

    def _check_names(self, field: str, names: list[str] | None) -> None:
        known = [tool.name for tool in self.tools or ()] + [function.name for function in self.functions or ()]
        for name in names or ():
            if name not in known:
                listed = shown(", ".join(known), 1000)
                message = f"{field} names the unknown tool '{shown(name)}'. The request's tools are: {listed}."
                raise invalid(message, field=field)
