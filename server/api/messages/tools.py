"""Tool definitions and tool choice of a Messages request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from server.api.generation.calling import ToolName
from server.api.generation.examples import CITY
from server.api.http.base_model import ApiModel, invalid

OWN_KINDS = (None, "custom")


class AnthropicTool(ApiModel):
    """A tool that the client or Anthropic defines.

    The server has none of Anthropic's tools, such as web search, and leaves them out of the prompt.
    """

    type: str | None = Field(
        None, description="`custom`, or the type of a tool that Anthropic defines.", examples=["custom"]
    )
    name: ToolName | None = Field(
        None,
        description="Letters, digits and `_ - . : /`; required unless Anthropic defines the tool.",
        examples=["get_weather"],
    )
    description: str | None = Field(
        None, description="What the tool does; part of the prompt.", examples=["Returns the weather in a city."]
    )
    input_schema: dict[str, Any] | None = Field(
        None, description="JSON schema of the arguments; required unless Anthropic defines the tool.", examples=[CITY]
    )
    strict: bool | None = Field(
        None, description="Reject the request if any part of the schema cannot be enforced.", examples=[True]
    )

    @model_validator(mode="before")
    @classmethod
    def _only_the_type_and_name_of_a_built_in_tool(cls, tool: Any) -> Any:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or kind in OWN_KINDS:
            return tool
        return {name: tool[name] for name in ("type", "name") if name in tool}

    @model_validator(mode="after")
    def _is_whole(self) -> AnthropicTool:
        for field in ("name", "input_schema"):
            if getattr(self, field) is None and not self.built_in:
                raise invalid(f"A tool requires the field `{field}`.", "missing_required_parameter", f".{field}")
        return self

    @property
    def built_in(self) -> bool:
        """Whether Anthropic defines the tool."""
        return self.type not in OWN_KINDS


class AnthropicToolChoice(ApiModel):
    """Which tools the model may or must call."""

    type: Literal["auto", "any", "tool", "none"] = Field(
        description="`auto`: it may call tools; `any`: it must call one; `tool`: it must call `name`; `none`: no calls."
    )
    name: str | None = Field(None, description="The tool to call, if `type` is `tool`.", examples=["get_weather"])
    disable_parallel_tool_use: bool | None = Field(
        None, description="Allow at most one call in an answer; false by default.", examples=[True]
    )

    @model_validator(mode="after")
    def _names_its_tool(self) -> AnthropicToolChoice:
        if self.type == "tool" and self.name is None:
            raise invalid(
                "A tool_choice of type tool requires the field `name`.", "missing_required_parameter", ".name"
            )
        return self
