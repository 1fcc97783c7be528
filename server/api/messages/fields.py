"""The request bodies of POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from server.api.generation.examples import PERSON
from server.api.generation.fields import MAX_STOPS, GenerationFields
from server.api.generation.template_fields import TemplateFields
from server.api.generation.thinking import ThinkingFields
from server.api.http.base_model import ApiModel, invalid
from server.api.messages.blocks import TEXT_BLOCKS, MessageParam, Text
from server.api.messages.tools import AnthropicTool, AnthropicToolChoice
from server.errors import shown


class ThinkingConfig(ApiModel):
    """How the model thinks before it answers."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"] = Field(
        description="`enabled`: up to `budget_tokens`. `disabled`: not at all. `adaptive` and `between_tools`: up to "
        "the budget of `output_config.effort`, or the server's."
    )
    budget_tokens: int | None = Field(
        None, ge=0, description="Maximum tokens of thoughts, if `type` is `enabled`.", examples=[1024]
    )
    display: Literal["summarized", "omitted"] | None = Field(
        None, description="`omitted` leaves the thoughts out of the answer.", examples=["summarized"]
    )

    @model_validator(mode="after")
    def _has_a_budget(self) -> ThinkingConfig:
        if self.type == "enabled" and self.budget_tokens is None:
            message = "thinking of type enabled requires budget_tokens."
            raise invalid(message, "missing_required_parameter", ".budget_tokens")
        return self

    @property
    def budget(self) -> int | None:
        """Maximum number of tokens in the thoughts; None if `type` does not set it."""
        return 0 if self.type == "disabled" else self.budget_tokens if self.type == "enabled" else None


class OutputFormat(ApiModel):
    """The format of the answer."""

    type: Literal["json_schema"] = Field(description="JSON that matches the schema; always enforced.")
    schema_: dict[str, Any] = Field(alias="schema", description="The JSON schema.", examples=[PERSON])


class OutputConfig(ApiModel):
    """Options for the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="How much to think: the server has a budget for each effort.", examples=["low"]
    )
    format: OutputFormat | None = Field(None, description="Format of the answer's text.")


class Metadata(ApiModel):
    """Data about the request."""

    user_id: str | None = Field(None, description="Accepted; no effect.", examples=["ann"])


class PromptFields(ApiModel):
    """Fields that determine the prompt."""

    messages: list[MessageParam] = Field(
        min_length=1, description="Messages of the chat, oldest first. The model continues a last assistant message."
    )
    system: Text = Field(
        None,
        description="Instructions, as a string or as text blocks.",
        examples=["Be brief."],
        json_schema_extra=TEXT_BLOCKS,
    )
    tools: list[AnthropicTool] | None = Field(None, description="Tools that the model may call.")
    tool_choice: AnthropicToolChoice | None = Field(None, description="Which tools to call; `auto` by default.")
    thinking: ThinkingConfig | None = Field(
        None, description="How the model thinks; by default up to the server's budget."
    )
    output_config: OutputConfig | None = Field(None, description="Options of the answer.")
    cache_control: dict[str, Any] | None = Field(
        None, description="Accepted here and in blocks and tools; the prefix cache is automatic.", examples=[{}]
    )

    @property
    def own_tools(self) -> list[AnthropicTool]:
        """Tools that the client defines."""
        return [tool for tool in self.tools or () if not tool.built_in]

    @model_validator(mode="after")
    def _choice_has_its_tool(self) -> PromptFields:
        choice = self.tool_choice
        if choice is None or choice.type in ("none", "auto"):
            return self
        own = [tool.name for tool in self.own_tools]
        built_in = [tool.name or tool.type or "" for tool in self.tools or () if tool.built_in]
        if choice.name in built_in or (built_in and not own):
            message = f"tool_choice requires a tool that this server does not have: {shown(', '.join(built_in), 300)}."
            raise invalid(message, "unsupported_value", "tool_choice")
        if not own:
            raise invalid("tool_choice requires tools.", field="tool_choice")
        if choice.type == "tool" and choice.name not in own:
            known = shown(", ".join(name or "" for name in own), 1000)
            message = f"tool_choice names the unknown tool '{shown(choice.name or '')}'; known: {known}."
            raise invalid(message, field="tool_choice.name")
        return self


class CountTokensRequest(PromptFields, TemplateFields):
    """The request body of POST /v1/messages/count_tokens."""

    model: str | None = Field(None, description="ID of a served model; defaults to the first.", examples=["lfm2-demo"])


class MessagesRequest(PromptFields, GenerationFields, TemplateFields, ThinkingFields):
    """The request body of POST /v1/messages."""

    max_tokens: int = Field(ge=1, description="Maximum tokens to generate.", examples=[200])
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None,
        max_length=MAX_STOPS,
        description="The answer ends before the first of these strings.",
        examples=[["\n\n"]],
    )
    metadata: Metadata | None = Field(None, description="Accepted; no effect.")
    service_tier: str | None = Field(None, description="Accepted; no effect.", examples=["auto"])
    n: Literal[1] | None = Field(None, description="A message has one answer.", examples=[1])

    @model_validator(mode="after")
    def _thoughts_leave_room(self) -> MessagesRequest:
        budget = self.thinking.budget if self.thinking else None
        if budget is not None and budget >= self.max_tokens:
            message = f"thinking.budget_tokens must be less than max_tokens, which is {self.max_tokens}; got {budget}."
            raise invalid(message, field="thinking.budget_tokens")
        return self
