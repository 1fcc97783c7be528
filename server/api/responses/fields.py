"""The request body of POST /v1/responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from server.api.generation.calling import ParallelField
from server.api.generation.fields import GenerationFields
from server.api.generation.output_format import TextFormFields
from server.api.generation.template_fields import TemplateFields
from server.api.generation.thinking import EffortField, ThinkingFields
from server.api.http.base_model import ApiModel, also, invalid
from server.api.http.request_body import MAX_ITEMS
from server.api.responses.items import InputItem
from server.api.responses.tools import AnyToolChoice, ClientTool, ResponseTool, client_tools
from server.chat.types import TextForm
from server.errors import shown

LOGPROBS, ENCRYPTED = "message.output_text.logprobs", "reasoning.encrypted_content"
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def _items(value: Any) -> Any:
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value


def _refused(message: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        if value is not None:
            raise invalid(message, "unsupported_value")
        return value

    return refuse


class TextFormat(ApiModel):
    """The format of the answer's text."""

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="Free text, any JSON object, or JSON that matches a schema."
    )
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None, description="Name of the schema: up to 64 letters, digits, `_` and `-`.", examples=["answer"]
    )
    description: str | None = Field(None, description="Purpose of the schema.", examples=["A person's age."])
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description="The JSON schema, if `type` is `json_schema`.", examples=[PERSON]
    )
    strict: bool | None = Field(None, description="Accepted; schemas are always enforced.", examples=[True])

    @model_validator(mode="after")
    def _has_a_schema(self) -> TextFormat:
        if self.type == "json_schema" and self.schema_ is None:
            message = "A format of type json_schema requires the field `schema`."
            raise invalid(message, "missing_required_parameter", ".schema")
        return self

    @property
    def text_form(self) -> TextForm | None:
        """The constraint on the answer; None if any text is allowed."""
        if self.type == "text":
            return None
        schema = self.schema_ if self.type == "json_schema" else {"type": "object"}
        return TextForm("json", schema, "text.format.schema")


class TextConfig(ApiModel):
    """Options for the answer's text."""

    format: TextFormat | None = Field(None, description="Format of the text; always enforced.")
    verbosity: Literal["low", "medium", "high"] | None = Field(None, description="Accepted; no effect.")


class ReasoningConfig(ApiModel):
    """Options for the thoughts."""

    effort: EffortField = None
    summary: str | None = Field(None, description="Accepted; thoughts are returned whole.", examples=["auto"])


class ResponseRequest(GenerationFields, TextFormFields, TemplateFields, ThinkingFields):
    """The request body of POST /v1/responses."""

    input: Annotated[list[InputItem] | None, BeforeValidator(_items)] = Field(
        None,
        description="The input, as a string or as items. Required without `previous_response_id`.",
        examples=["Hello!"],
        json_schema_extra=also({"type": "string"}),
    )
    instructions: str | None = Field(
        None, description="System message before the input; not inherited by later responses.", examples=["Be brief."]
    )
    previous_response_id: str | None = Field(
        None, description="Stored response that this one continues.", examples=["resp_5f2c"]
    )
    max_output_tokens: int | None = Field(
        None, ge=1, description="Maximum tokens to generate; by default up to the end of the context.", examples=[200]
    )
    include: list[str] | None = Field(
        None,
        description=f"`{LOGPROBS}` and `{ENCRYPTED}` add to the output; other values have no effect.",
        examples=[[LOGPROBS]],
    )
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="Number of most likely tokens to return at each position.", examples=[3]
    )
    text: TextConfig | None = Field(None, description="Options of the text.")
    reasoning: ReasoningConfig | None = Field(None, description="Options of the thoughts.")
    tools: list[ResponseTool] | None = Field(None, description="Tools that the model may call.")
    tool_choice: AnyToolChoice = None
    parallel_tool_calls: ParallelField = None
    max_tool_calls: int | None = Field(None, ge=0, description="Maximum calls in the response.", examples=[4])
    truncation: Literal["auto", "disabled"] | None = Field(
        None,
        description="`auto`: drop the oldest items if the prompt does not fit. `disabled`, the default: refuse it.",
        examples=["disabled"],
    )
    store: bool | None = Field(None, description="Keep the response for later requests; true by default.")
    background: bool | None = Field(
        None, description="Answer at once and generate in the background.", examples=[False]
    )
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        None, max_length=16, description="Kept with the response.", examples=[{}]
    )
    user: str | None = Field(None, description="Returned; no effect.", examples=["ann"])
    safety_identifier: str | None = Field(None, description="Returned; no effect.", examples=["ann"])
    prompt_cache_key: str | None = Field(
        None, description="Returned. The server's prefix cache does not need it.", examples=["chat-7"]
    )
    prompt_cache_retention: str | None = Field(None, description="Accepted; no effect.", examples=["24h"])
    service_tier: str | None = Field(None, description="Accepted; no effect.", examples=["auto"])
    n: Literal[1] | None = Field(None, description="A response has one answer.", examples=[1])
    response_format: Annotated[
        None, BeforeValidator(_refused("response_format is not supported: send text.format."))
    ] = Field(None, description="Not supported; `text.format` takes its place.")
    conversation: Annotated[
        None, BeforeValidator(_refused("conversation is not supported: send previous_response_id."))
    ] = Field(None, description="Not supported; `previous_response_id` takes its place.")
    prompt: Annotated[
        None, BeforeValidator(_refused("This server stores no prompts: send instructions and input."))
    ] = Field(None, description="Not supported.")

    @model_validator(mode="after")
    def _fields_agree(self) -> ResponseRequest:
        if self.input is None and self.previous_response_id is None:
            raise invalid("`input` is required.", "missing_required_parameter", "input")
        if self.input == [] and self.previous_response_id is None:
            raise invalid("input requires at least one message.", field="input")
        if self.background and self.store is False:
            raise invalid("background: true and store: false cannot be combined.", field="background")
        if self.continue_final_message and self.add_generation_prompt:
            message = "continue_final_message and add_generation_prompt cannot both be true."
            raise invalid(message, field="continue_final_message")
        if (count := len(self.own_tools)) > MAX_ITEMS["tools"]:
            raise invalid(f"tools may have at most {MAX_ITEMS['tools']:,} items; got {count:,}.", field="tools")
        if self.tool_choice is not None:
            self._check_choice()
        return self

    def _check_choice(self) -> None:
        choice = self.tool_choice
        assert choice is not None
        known = [tool.full_name for tool in self.own_tools]
        if choice.required and not known:
            raise invalid("tool_choice requires tools of type function or custom.", field="tool_choice")
        if choice.names == []:
            raise invalid(
                "allowed_tools names only built-in tools, which this server lacks: name a function or custom tool.",
                "unsupported_value",
                "tool_choice.tools",
            )
        for name in choice.names or ():
            if name not in known:
                message = f"tool_choice names the unknown tool '{shown(name)}'; known: {shown(', '.join(known), 1000)}."
                raise invalid(message, field="tool_choice")

    @property
    def own_tools(self) -> list[ClientTool]:
        """Tools that the client defines, without OpenAI's built-in tools."""
        return client_tools(self.tools or ())

    def includes(self, part: str) -> bool:
        """Return whether the request field `include` lists `part`."""
        return part in (self.include or ())

    def _forms(self) -> list[TextForm]:
        form = self.text.format.text_form if self.text and self.text.format else None
        return ([form] if form else []) + super()._forms()
