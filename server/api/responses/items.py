"""The input items of a response: messages, calls, their results, and thoughts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from server.api.http.base_model import ApiModel, also, invalid, null_as
from server.api.responses.thoughts import unsealed
from server.api.responses.tools import full_name
from server.errors import shown

TEXT_PARTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
ItemType = Literal[
    "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning",
    "item_reference",
]  # fmt: skip
REQUIRED: dict[ItemType, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "reasoning": (),
    "item_reference": ("id",),
}
TEXT = {"type": "string"}


def _parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


class Part(ApiModel):
    """A part of an item's text."""

    type: Literal["input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"] = Field(
        description="Kind of the text."
    )
    text: str | None = Field(None, description="The text.", examples=["What is the weather in Bern?"])
    refusal: str | None = Field(None, description="The text, if `type` is `refusal`.")

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, part: Any) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in TEXT_PARTS:
            message = f"The model reads text only: content parts of type {shown(kind)} are not supported; supported: "
            raise invalid(f"{message}{', '.join(TEXT_PARTS)}.", "unsupported_value", ".type")
        return part

    @model_validator(mode="after")
    def _has_its_text(self) -> Part:
        field = "refusal" if self.type == "refusal" else "text"
        if getattr(self, field) is None:
            raise invalid(f"A content part of type {self.type} requires the field `{field}`.", field=f".{field}")
        return self

    @property
    def content(self) -> str:
        """Text of the part."""
        return (self.refusal if self.type == "refusal" else self.text) or ""


Parts = Annotated[list[Part] | None, BeforeValidator(_parts)]


class InputItem(ApiModel):
    """One item of the input. Its type determines the required fields."""

    type: Annotated[ItemType, null_as("message")] = Field("message", description="Kind of the item.")
    id: str | None = Field(None, description="ID of the item; required for a reference.", examples=["msg_5f2c"])
    role: Literal["user", "assistant", "system", "developer"] | None = Field(None, description="Author of a message.")
    content: Parts = Field(
        None,
        description="Text of a message, as a string or as parts; text of thoughts, as parts.",
        examples=["What is the weather in Bern?"],
        json_schema_extra=also(TEXT),
    )
    call_id: str | None = Field(None, description="ID that a call and its result share.", examples=["call_5f2c"])
    name: str | None = Field(None, description="Name of the called tool.", examples=["get_weather"])
    namespace: str | None = Field(None, description="Namespace of the called tool.", examples=["crm"])
    arguments: str | None = Field(
        None, description="Arguments of a function call, as the text of a JSON object.", examples=['{"city": "Bern"}']
    )
    input: str | None = Field(None, description="Input of a custom tool call.", examples=["ls"])
    output: Parts = Field(
        None,
        description="Result of a call, as a string or as parts.",
        examples=["12 degrees, rain"],
        json_schema_extra=also(TEXT),
    )
    summary: Parts = Field(None, description="Summary of thoughts; read if there is no content.")
    encrypted_content: str | None = Field(None, description="Thoughts as an earlier response returned them.")

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, item: Any) -> Any:
        kind = item.get("type") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind not in REQUIRED:
            known = ", ".join(REQUIRED)
            message = f"Input items of type {shown(kind)} are not supported; supported: {known}."
            raise invalid(message, "unsupported_value", ".type")
        if isinstance(item, dict) and kind is None and item.get("role") is None and item.get("id") is not None:
            return {"type": "item_reference", **{k: v for k, v in item.items() if k != "type"}}
        return item

    @model_validator(mode="after")
    def _has_its_fields(self) -> InputItem:
        for field in REQUIRED[self.type]:
            if getattr(self, field) is None:
                message = f"An item of type {self.type} requires the field `{field}`."
                raise invalid(message, "missing_required_parameter", f".{field}")
        if self.type == "reasoning" and self.encrypted_content is not None and unsealed(self.encrypted_content) is None:
            raise invalid("encrypted_content was not created by this server.", field=".encrypted_content")
        return self

    @property
    def tool_name(self) -> str:
        """Name of the called tool in the prompt."""
        return full_name(self.namespace, self.name or "")

    @property
    def thoughts(self) -> str:
        """Text of a reasoning item."""
        if self.content:
            return "".join(part.content for part in self.content)
        if self.encrypted_content is not None:
            return unsealed(self.encrypted_content) or ""
        return joined(self.summary)


def joined(parts: list[Part] | None) -> str:
    """Join the texts of `parts` with line breaks."""
    return "\n".join(part.content for part in parts or ())
