"""The parts of a chat request that say which tools there are, and how they may be called."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from server.api.http.base_model import ApiModel, Tagged, invalid

ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\w.:/-]+$")]


class FunctionDefinition(ApiModel):
    """A function that the model may call."""

    name: ToolName = Field(description="Letters, digits, and _ - . : /", examples=["get_weather"])
    description: str | None = Field(
        None, description="What it does, for the model to read.", examples=["Tells the weather of a city."]
    )
    parameters: dict[str, Any] | None = Field(
        None,
        description="A JSON schema; without one there are no arguments.",
        examples=[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}],
    )
    strict: bool | None = Field(
        None, description="Calls match all of the schema, or the request is refused.", examples=[True]
    )


class CustomDefinition(ApiModel):
    """A tool that takes a text."""

    name: ToolName = Field(description="Letters, digits, and _ - . : /", examples=["shell"])
    description: str | None = Field(
        None, description="What it does, for the model to read.", examples=["Runs a command."]
    )
    format: dict[str, Any] | None = Field(
        None, description="Only text, which it is if absent.", examples=[{"type": "text"}]
    )

    @model_validator(mode="after")
    def _takes_text(self) -> CustomDefinition:
        if self.format is not None and self.format.get("type") != "text":
            raise invalid("Custom tools take text here: format.type must be text.", "unsupported_value", ".format.type")
        return self


class ToolDefinition(Tagged):
    """A tool; `type` names the field that holds the rest."""

    type: Literal["function", "custom"] = Field(description="Of which kind it is.")
    function: FunctionDefinition | None = Field(None, description="A function with arguments.")
    custom: CustomDefinition | None = Field(None, description="A tool that takes a text.")

    @property
    def name(self) -> str:
        named = self.function if self.type == "function" else self.custom
        assert named is not None
        return named.name


class Named(ApiModel):
    """One of the tools."""

    name: str = Field(description="As in the request's tools.", examples=["get_weather"])


class ToolReference(Tagged):
    """One of the tools; `type` names the field that holds its name."""

    type: Literal["function", "custom"] = Field("function", description="A function if absent.")
    function: Named | None = Field(None, description="A function.")
    custom: Named | None = Field(None, description="A custom tool.")

    @property
    def name(self) -> str:
        named = self.function if self.type == "function" else self.custom
        assert named is not None
        return named.name


class AllowedTools(ApiModel):
    """Some of the tools."""

    mode: Literal["auto", "required"] = Field(description="Whether one of them must be called.")
    tools: list[ToolReference] = Field(min_length=1, description="Those that may be called.")


class ToolChoice(Tagged):
    """`none`, `auto` and `required` may also be sent as mere strings."""

    type: Literal["none", "auto", "required", "function", "custom", "allowed_tools"] = Field(
        description="A mode, or which field names what may be called."
    )
    function: Named | None = Field(None, description="The function to call.")
    custom: Named | None = Field(None, description="The custom tool to call.")
    allowed_tools: AllowedTools | None = Field(None, description="Those of the tools that may be called.")

    @property
    def names(self) -> list[str] | None:
        """The tools that may be called; None for all."""
        if self.type == "allowed_tools":
            assert self.allowed_tools is not None
            return [tool.name for tool in self.allowed_tools.tools]
        named = self.function or self.custom
        return [named.name] if named and self.type in ("function", "custom") else None

    @property
    def required(self) -> bool:
        """Whether a tool must be called."""
        if self.type == "allowed_tools":
            return self.allowed_tools is not None and self.allowed_tools.mode == "required"
        return self.type in ("required", "function", "custom")


def _mode_as_object(choice: Any) -> Any:
    return {"type": choice} if isinstance(choice, str) else choice


AnyToolChoice = Annotated[ToolChoice | None, BeforeValidator(_mode_as_object)]


class FunctionChoice(ApiModel):
    """The old function_call; `none` and `auto` are sent as mere strings."""

    type: Literal["none", "auto"] | None = Field(None, description="Only as a mere string.")
    name: str | None = Field(None, description="The function to call.", examples=["get_weather"])

    @model_validator(mode="after")
    def _says_something(self) -> FunctionChoice:
        if self.type is None and self.name is None:
            raise invalid('function_call must be "none", "auto" or {"name": ...}.')
        return self


AnyFunctionChoice = Annotated[FunctionChoice | None, BeforeValidator(_mode_as_object)]
