"""Tool definitions and tool choice of a response.

The server has none of OpenAI's built-in tools, such as web search. It drops them from requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from server.api.generation.calling import MODE_AS_OBJECT, TOOL_CHOICE, CustomGrammar, ToolName
from server.api.http.base_model import ApiModel, invalid
from server.chat.types import TextForm
from server.errors import shown

OWN_KINDS, NAMESPACE = ("function", "custom"), "namespace"
KINDS = (*OWN_KINDS, NAMESPACE)


class ResponseToolFormat(ApiModel):
    """The format of a custom tool's input."""

    type: Literal["text", "grammar"] = Field(description="Any text, or text that matches a grammar.")
    syntax: Literal["lark", "regex"] | None = Field(None, description="Syntax of the definition.")
    definition: str | None = Field(
        None,
        description="A grammar in Lark without recursion, or a regular expression; always enforced.",
        examples=['start: "ls" | "pwd"'],
    )

    @model_validator(mode="after")
    def _is_whole(self) -> ResponseToolFormat:
        for field in ("syntax", "definition") if self.type == "grammar" else ():
            if not getattr(self, field):
                message = f"A format of type grammar requires the field `{field}`."
                raise invalid(message, "missing_required_parameter", f".{field}")
        return self

    def text_form(self, field: str) -> TextForm | None:
        """Return the constraint on the tool's input; None if any text is allowed.

        field: path of the format in the request, for error messages.
        """
        if self.syntax is None or self.definition is None or self.type != "grammar":
            return None
        return CustomGrammar(syntax=self.syntax, definition=self.definition).text_form(f"{field}.definition")


class ResponseTool(ApiModel):
    """A function, a custom tool, a namespace with such tools, or a built-in tool, which is dropped."""

    type: str = Field(
        description="`function`, `custom`, `namespace`, or the type of a built-in tool.", examples=["function"]
    )
    name: ToolName | None = Field(
        None,
        description="Name of a function, custom tool or namespace: letters, digits and `_ - . : /`.",
        examples=["get_weather"],
    )
    description: str | None = Field(
        None, description="What the tool does; part of the prompt.", examples=["Returns the weather in a city."]
    )
    parameters: dict[str, Any] | None = Field(
        None,
        description="JSON schema of a function's arguments. Without a schema, the function has no arguments.",
        examples=[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}],
    )
    strict: bool | None = Field(
        None, description="Reject the request if any part of the schema cannot be enforced.", examples=[True]
    )
    format: ResponseToolFormat | None = Field(None, description="Format of a custom tool's input; any text by default.")
    tools: list[ResponseTool] | None = Field(None, description="Functions and custom tools of a namespace.")

    @model_validator(mode="before")
    @classmethod
    def _only_the_type_of_a_built_in_tool(cls, tool: Any) -> Any:
        kind = tool.get("type") if isinstance(tool, dict) else None
        return {"type": kind} if isinstance(kind, str) and kind not in KINDS else tool

    @model_validator(mode="after")
    def _is_whole(self) -> ResponseTool:
        if not self.built_in and self.name is None:
            raise invalid(f"A tool of type {self.type} requires a name.", "missing_required_parameter", ".name")
        if self.type == NAMESPACE and self.tools is None:
            raise invalid("A namespace requires the field `tools`.", "missing_required_parameter", ".tools")
        for i, tool in enumerate(self.tools or ()):
            if tool.type not in OWN_KINDS:
                message = f"A namespace may have tools of type function and custom only; got {shown(tool.type)}."
                raise invalid(message, "unsupported_value", f".tools[{i}].type")
        return self

    @property
    def built_in(self) -> bool:
        """Whether the tool is one of OpenAI's built-in tools."""
        return self.type not in KINDS


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A function or custom tool of a request.

    path: path of the tool in the request, such as `tools[0].tools[2]`.
    namespace: name of the tool's namespace; None if it has none.
    """

    definition: ResponseTool
    path: str
    namespace: str | None

    @property
    def name(self) -> str:
        """Name of the tool in its namespace."""
        return self.definition.name or ""

    @property
    def full_name(self) -> str:
        """Name of the tool in the prompt and in the model's calls."""
        return full_name(self.namespace, self.name)

    @property
    def is_custom(self) -> bool:
        """Whether the tool's input is text."""
        return self.definition.type == "custom"


def client_tools(tools: Sequence[ResponseTool]) -> list[ClientTool]:
    """Return the function and custom tools in `tools`, including those in namespaces."""
    found: list[ClientTool] = []
    for i, tool in enumerate(tools):
        if tool.type in OWN_KINDS:
            found.append(ClientTool(tool, f"tools[{i}]", None))
        elif tool.type == NAMESPACE:
            members = enumerate(tool.tools or ())
            found += [ClientTool(member, f"tools[{i}].tools[{j}]", tool.name) for j, member in members]
    return found


def full_name(namespace: str | None, name: str) -> str:
    """Return the name of a tool in the prompt: `get` in the namespace `crm` is `crm.get`."""
    return f"{namespace}.{name}" if namespace else name


class ResponseToolReference(ApiModel):
    """A reference to one of the request's `tools`."""

    type: str = Field(description="Kind of the tool.", examples=["function"])
    name: str | None = Field(
        None,
        description="Name as defined in `tools`; `crm.get` is the tool `get` of a namespace `crm`.",
        examples=["get_weather"],
    )


class ResponseToolChoice(ApiModel):
    """Which tools the model may or must call.

    A string such as "auto" is short for {"type": "auto"}.
    """

    type: str = Field(
        description="`none`, `auto`, `required`, `function`, `custom` or `allowed_tools`.", examples=["function"]
    )
    name: str | None = Field(None, description="The function or custom tool to call.", examples=["get_weather"])
    mode: Literal["auto", "required"] | None = Field(
        None, description="For `allowed_tools`. `required`: the model must call one of them."
    )
    tools: list[ResponseToolReference] | None = Field(
        None, description="For `allowed_tools`: the tools that may be called."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> ResponseToolChoice:
        if self.type in OWN_KINDS and self.name is None:
            raise invalid(f"tool_choice of type {self.type} requires a name.", "missing_required_parameter", ".name")
        if self.type == "allowed_tools" and not (self.mode and self.tools):
            missing = "tools" if self.mode else "mode"
            raise invalid(
                f"tool_choice of type allowed_tools requires {missing}.", "missing_required_parameter", f".{missing}"
            )
        if self.type not in ("none", "auto", "required", "allowed_tools", *OWN_KINDS):
            message = f"tool_choice names the built-in tool {shown(self.type)}, which this server does not have."
            raise invalid(message, "unsupported_value", ".type")
        return self

    @property
    def names(self) -> list[str] | None:
        """Names of the tools that may be called; None if the choice is not limited.

        Built-in tools are left out.
        """
        if self.type == "allowed_tools":
            return [tool.name or "" for tool in self.tools or () if tool.type in OWN_KINDS]
        return [self.name or ""] if self.is_named else None

    @property
    def is_named(self) -> bool:
        """Whether the model must call one given tool exactly once."""
        return self.type in OWN_KINDS

    @property
    def required(self) -> bool:
        """Whether the model must call a tool."""
        return self.mode == "required" if self.type == "allowed_tools" else self.type == "required" or self.is_named


AnyToolChoice = Annotated[ResponseToolChoice | None, MODE_AS_OBJECT, TOOL_CHOICE]
