"""The parts of a chat request that say which tools there are, how they may be called, and what form text must have."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from server.api.validation import ApiModel, invalid

ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\w.:/-]+$")]


class FunctionDefinition(ApiModel):
    name: ToolName = Field(description="Letters, digits, and _ - . : /")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema; without one there are no arguments.")
    strict: bool | None = Field(None, description="Calls match all of the schema, or the request is refused.")


class CustomDefinition(ApiModel):
    name: ToolName
    description: str | None = None
    format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _takes_text(self) -> CustomDefinition:
        if self.format is not None and self.format.get("type") != "text":
            raise invalid("Custom tools take text here: format.type must be text.", "unsupported_value", ".format.type")
        return self


class Tagged(ApiModel):
    """An object whose `type` names the field that holds the rest, as in {"type": "function", "function": {...}}."""

    type: str

    @model_validator(mode="after")
    def _has_what_its_type_names(self) -> Self:
        if getattr(self, self.type, self) is None:
            message = f"An object of type {self.type} needs the field {self.type}."
            raise invalid(message, "missing_required_parameter", f".{self.type}")
        return self


class ToolDefinition(Tagged):
    type: Literal["function", "custom"]
    function: FunctionDefinition | None = None
    custom: CustomDefinition | None = None

    @property
    def name(self) -> str:
        named = self.function if self.type == "function" else self.custom
        assert named is not None
        return named.name


class Named(ApiModel):
    name: str


class ToolReference(Tagged):
    type: Literal["function", "custom"] = "function"
    function: Named | None = None
    custom: Named | None = None

    @property
    def name(self) -> str:
        named = self.function if self.type == "function" else self.custom
        assert named is not None
        return named.name


class AllowedTools(ApiModel):
    mode: Literal["auto", "required"]
    tools: list[ToolReference] = Field(min_length=1)


class ToolChoice(Tagged):
    """`none`, `auto` and `required` may also be sent as mere strings."""

    type: Literal["none", "auto", "required", "function", "custom", "allowed_tools"]
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None

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

    type: Literal["none", "auto"] | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> FunctionChoice:
        if self.type is None and self.name is None:
            raise invalid('function_call must be "none", "auto" or {"name": ...}.')
        return self


AnyFunctionChoice = Annotated[FunctionChoice | None, BeforeValidator(_mode_as_object)]


class JsonSchemaFormat(ApiModel):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="Without one any JSON object.")
    strict: bool | None = Field(None, description="Schemas are always enforced.")


class ResponseFormat(Tagged):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @property
    def text_schema(self) -> dict[str, Any] | None:
        """The JSON schema that text must match; None where it is free."""
        if self.type == "text":
            return None
        schema = self.json_schema.schema_ if self.json_schema else None
        return {"type": "object"} if schema is None else schema
