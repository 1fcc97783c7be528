"""Messages and content blocks of a request, named as in Anthropic's client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from server.api.http.base_model import ApiModel, also, invalid, union_tag
from server.errors import shown


class TextBlockParam(ApiModel):
    """A block of text."""

    type: Literal["text"] = Field(description="Kind of the block.")
    text: str = Field(description="The text.", examples=["What is the weather in Bern?"])


class ThinkingBlockParam(ApiModel):
    """Thoughts of an earlier answer."""

    type: Literal["thinking"] = Field(description="Kind of the block.")
    thinking: str = Field(description="The thoughts.", examples=["The user greets me."])
    signature: str | None = Field(None, description="Accepted; any signature is valid.", examples=["c2lnbmF0dXJl"])


class RedactedThinkingBlockParam(ApiModel):
    """Hidden thoughts of another model. They are left out of the prompt."""

    type: Literal["redacted_thinking"] = Field(description="Kind of the block.")
    data: str | None = Field(None, description="Accepted; no effect.", examples=["ZGF0YQ=="])


class ToolUseBlockParam(ApiModel):
    """A tool call in an earlier answer."""

    type: Literal["tool_use"] = Field(description="Kind of the block.")
    id: str = Field(description="ID of the call, repeated in the `tool_use_id` of its result.", examples=["call_5f2c"])
    name: str = Field(description="Name of the tool.", examples=["get_weather"])
    input: dict[str, Any] = Field(description="Arguments.", examples=[{"city": "Bern"}])


def _text(content: Any) -> Any:
    """Join a list of text blocks with line breaks.

    Content that is not a list is returned unchanged.
    """
    if not isinstance(content, list):
        return content
    return "\n".join(_block_text(i, block) for i, block in enumerate(content))


def _block_text(position: int, block: Any) -> str:
    if (kind := _kind(block)) != "text":
        message = f"The model reads text only: blocks must have type text; got {shown(repr(kind or block))}."
        raise invalid(message, "unsupported_value", f"[{position}].type")
    if not isinstance(text := block.get("text"), str):
        raise invalid("A text block requires the string field text.", field=f"[{position}].text")
    return text


TEXT_BLOCK = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
Text = Annotated[str | None, BeforeValidator(_text)]
TEXT_BLOCKS = also({"type": "array", "items": TEXT_BLOCK})


class ToolResultBlockParam(ApiModel):
    """The result of a tool call."""

    type: Literal["tool_result"] = Field(description="Kind of the block.")
    tool_use_id: str = Field(description="ID of the call.", examples=["call_5f2c"])
    content: Text = Field(
        None,
        description="The result, as a string or as text blocks.",
        examples=["21 °C"],
        json_schema_extra=TEXT_BLOCKS,
    )
    is_error: bool | None = Field(
        None, description="Whether the call failed; the model then sees `Error: ` before the result.", examples=[False]
    )


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else getattr(block, "type", None)


Block = Annotated[
    Annotated[TextBlockParam, Tag(union_tag("text"))]
    | Annotated[ThinkingBlockParam, Tag(union_tag("thinking"))]
    | Annotated[RedactedThinkingBlockParam, Tag(union_tag("redacted_thinking"))]
    | Annotated[ToolUseBlockParam, Tag(union_tag("tool_use"))]
    | Annotated[ToolResultBlockParam, Tag(union_tag("tool_result"))],
    Discriminator(lambda block: union_tag(str(_kind(block)))),
]
KINDS_OF = {
    "user": ("text", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}
KINDS = tuple(dict.fromkeys(kind for kinds in KINDS_OF.values() for kind in kinds))


def _blocks(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for i, block in enumerate(content if isinstance(content, list) else ()):
        if (kind := _kind(block)) not in KINDS:
            name = shown(kind) if isinstance(kind, str) else shown(repr(kind))
            message = f"The model reads text only: blocks of type {name} are not supported; supported: "
            raise invalid(f"{message}{', '.join(KINDS)}.", "unsupported_value", f"[{i}].type")
    return content


class MessageParam(ApiModel):
    """A message of the chat."""

    role: Literal["user", "assistant", "system"] = Field(description="Author of the message.")
    content: Annotated[list[Block], BeforeValidator(_blocks, json_schema_input_type=str | list[Block])] = Field(
        description="Text, as a string or as blocks. Thoughts and calls belong to assistant messages, results to user "
        "messages."
    )

    @model_validator(mode="after")
    def _blocks_fit_the_role(self) -> MessageParam:
        for i, block in enumerate(self.content):
            if block.type not in (allowed := KINDS_OF[self.role]):
                message = f"A message with role {self.role} cannot have blocks of type {block.type}; allowed: "
                raise invalid(f"{message}{', '.join(allowed)}.", field=f".content[{i}].type")
        return self
