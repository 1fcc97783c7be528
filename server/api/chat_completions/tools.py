"""Tool definitions and tool choice of a chat request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from server.api.generation.calling import MODE_AS_OBJECT, TOOL_CHOICE, CustomGrammar, ToolName
from server.api.http.base_model import ApiModel, Tagged, invalid, null_as
from server.chat.types import TextForm


class FunctionDefinition(ApiModel):
    """A function that the model may call."""

    name: ToolName = Field(description="Letters, digits and `_ - . : /`.", examples=["get_weather"])
    description: str | None = Field(
        None, description="What the tool does; part of the prompt.", examples=["Returns the weather in a city."]
    )
    parameters: dict[str, Any] | None = Field(
        None,
        description="JSON schema of the arguments. Without a schema, the function has no arguments.",
        examples=[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}],
    )
    strict: bool | None = Field(
        None, description="Reject the request if any part of the schema cannot be enforced.", examples=[True]
    )


class CustomFormat(Tagged):
    """The format of a custom tool's input."""

    type: Literal["text", "grammar"] = Field(description="Any text, or text that matches a grammar.")
    grammar: CustomGrammar | None = Field(None, description="The grammar, if `type` is `grammar`; always enforced.")


class CustomDefinition(ApiModel):
    """A custom tool, whose input is text."""

    name: ToolName = Field(description="Letters, digits and `_ - . : /`.", examples=["shell"])
    description: str | None = Field(
        None, description="What the tool does; part of the prompt.", examples=["Runs a command."]
    )
    format: CustomFormat | None = Field(None, description="Format of the input; any text by default.")

    def text_form(self, field: str) -> TextForm | None:
        """Return the constraint on the tool's input; None if any text is allowed.

        field: path of the tool in the request, for error messages.
        """
        grammar = self.format.grammar if self.format and self.format.type == "grammar" else None
        return grammar.text_form(f"{field}.format.grammar.definition") if grammar else None


class ToolDefinition(Tagged):
    """A tool. `type` names the field that defines the tool."""

    type: Literal["function", "custom"] = Field(description="Kind of the tool.")
    function: FunctionDefinition | None = Field(None, description="A function with arguments.")
    custom: CustomDefinition | None = Field(None, description="A custom tool, whose input is text.")

    @property
    def name(self) -> str:
        named = self.function if self.type == "function" else self.custom
        assert named is not None
        return named.name


class Named(ApiModel):
    """The name of a tool."""

    name: str = Field(description="Name as defined in `tools`.", examples=["get_weather"])


class ToolReference(Tagged):
    """A tool's name, as in {"type": "function", "function": {"name": "get_weather"}}."""

    type: Annotated[Literal["function", "custom"], null_as("function")] = Field(
        "function", description="Kind of the tool; `function` by default."
    )
    function: Named | None = Field(None, description="The function.")
    custom: Named | None = Field(None, description="The custom tool.")

    @property
    def name(self) -> str:
        named = self.function if self.type == "function" else self.custom
        assert named is not None
        return named.name


class AllowedTools(ApiModel):
    """The subset of `tools` that the model may call."""

    mode: Literal["auto", "required"] = Field(
        description="`required`: the model must call one of the tools. `auto`: it may call them."
    )
    tools: list[ToolReference] = Field(min_length=1, description="Tools that may be called.")


class ToolChoice(Tagged):
    """Which tools the model may or must call.

    Examples: "none", "auto", "required", {"type": "function", "function": {"name": "get_weather"}}. A string such as
    "auto" is short for {"type": "auto"}.
    """

    type: Literal["none", "auto", "required", "function", "custom", "allowed_tools"] = Field(
        description="A mode, or the name of the field that holds the tools."
    )
    function: Named | None = Field(None, description="The function to call.")
    custom: Named | None = Field(None, description="The custom tool to call.")
    allowed_tools: AllowedTools | None = Field(None, description="The tools that may be called.")

    @property
    def names(self) -> list[str] | None:
        """Names of the tools that the choice is limited to; None if it names none."""
        if self.type == "allowed_tools":
            assert self.allowed_tools is not None
            return [tool.name for tool in self.allowed_tools.tools]
        named = self.function or self.custom
        return [named.name] if named and self.is_named else None

    @property
    def is_named(self) -> bool:
        """Whether the model must call one given tool exactly once."""
        return self.type in ("function", "custom")

    @property
    def required(self) -> bool:
        """Whether the model must call a tool."""
        if self.type == "allowed_tools":
            return self.allowed_tools is not None and self.allowed_tools.mode == "required"
        return self.type == "required" or self.is_named


AnyToolChoice = Annotated[ToolChoice | None, MODE_AS_OBJECT, TOOL_CHOICE]


class FunctionChoice(ApiModel):
    """The deprecated `function_call`: "none", "auto" or {"name": "get_weather"}."""

    type: Literal["none", "auto"] | None = Field(None, description="A mode, sent as a string.")
    name: str | None = Field(None, description="The function to call.", examples=["get_weather"])

    @model_validator(mode="after")
    def _has_mode_or_name(self) -> FunctionChoice:
        if self.type is None and self.name is None:
            raise invalid('function_call must be "none", "auto" or {"name": ...}.')
        return self


AnyFunctionChoice = Annotated[FunctionChoice | None, MODE_AS_OBJECT]
