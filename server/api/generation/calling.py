"""Converts tools and calls from all protocols to types of the chat layer.

A custom tool takes a text instead of JSON arguments. The model sees it as a function whose only argument is this text:
the input "ls" becomes the arguments `{"input": "ls"}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from server.api.http.base_model import ApiModel, also
from server.chat.types import Calling, TextForm, Tool, ToolCall

CUSTOM_ARGUMENT = "input"
"""Name of the argument of the function that the model sees instead of a custom tool."""

ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\w.:/-]+$")]

ParallelField = Annotated[
    bool | None, Field(description="Whether an answer may have several calls; true by default.", examples=[True])
]

TOOL_CHOICE = Field(
    description="Which tools to call; `auto` by default. `required` and named tools are enforced.",
    examples=["auto"],
    json_schema_extra=also({"type": "string", "enum": ["none", "auto", "required"]}),
)
"""The description of `tool_choice`; its type depends on the protocol."""


def _mode_as_object(choice: Any) -> Any:
    return {"type": choice} if isinstance(choice, str) else choice


MODE_AS_OBJECT = BeforeValidator(_mode_as_object)
"""Converts a tool choice that is only a mode, such as "auto", to {"type": "auto"}."""

_START = re.compile(r'\s*\{\s*"' + CUSTOM_ARGUMENT + r'"\s*:\s*"')
_CERTAIN = re.compile(r'(?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|[^u]))*')
_HALF_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")


class CustomGrammar(ApiModel):
    """The grammar that the input of a custom tool must match."""

    syntax: Literal["lark", "regex"] = Field(description="Syntax of the definition.")
    definition: Annotated[str, Field(min_length=1)] = Field(
        description="A grammar in Lark without recursion, or a regular expression.", examples=['start: "ls" | "pwd"']
    )

    def text_form(self, field: str) -> TextForm:
        """Return the constraint that this grammar sets.

        field: path of the definition in the request, for error messages.
        """
        return TextForm("regex" if self.syntax == "regex" else "grammar", self.definition, field)


def custom_tool(name: str, description: str | None, field: str, form: TextForm | None) -> Tool:
    """Return the function that the model sees instead of a custom tool.

    field: path of the tool in the request, for error messages.
    form: constraint on the input; None if any text is allowed.
    """
    text = {"type": "string"}
    if form is not None:
        text["description"] = f"Text that matches this {form.kind}: {form.value}"
    parameters = {"type": "object", "properties": {CUSTOM_ARGUMENT: text}, "required": [CUSTOM_ARGUMENT]}
    return Tool(name, description, parameters, strict=form is not None, field=field, input_form=form)


def custom_call(id: str, name: str, text: str) -> ToolCall:
    """Convert a call of a custom tool to a call of the function that the model sees.

    text: the input of the custom tool. The input "ls" becomes the arguments `{"input": "ls"}`.
    """
    return ToolCall(id, name, json.dumps({CUSTOM_ARGUMENT: text}, ensure_ascii=False))


def calling(
    tools: tuple[Tool, ...],
    *,
    names: Collection[str] | None,
    required: bool,
    forbidden: bool,
    parallel: bool,
    max_calls: int | None = None,
) -> Calling:
    """Return the rules for calling `tools`.

    names: names of the tools that may be called; None if all tools may be called.
    required: whether the model must call a tool.
    forbidden: whether the model must not call any tool. If true, the other rules have no effect.
    parallel: whether an answer may contain several calls.
    max_calls: maximum number of calls in an answer; None if unlimited.
    """
    if forbidden:
        return Calling(forbidden=bool(tools))
    callable_tools = tuple(tool for tool in tools if names is None or tool.name in names)
    return Calling(callable_tools, required, parallel, max_calls=max_calls)


class CustomInput:
    """A decoder of a custom tool's input.

    The model writes the input as a function's argument, such as `{"input": "ls"}`. The decoder returns `ls`, piece by
    piece as the JSON text arrives.
    """

    def __init__(self) -> None:
        self._text = ""
        self._in_string = False
        self._ended = False

    def feed(self, arguments: str) -> str:
        """Decode the next piece of the JSON text, and return the new part of the input.

        If the piece ends within an escape sequence, such as `\\u00`, the sequence is decoded with the next piece.
        """
        self._text += arguments
        if not self._in_string:
            start = _START.match(self._text)
            if start is None:
                return ""
            self._text, self._in_string = self._text[start.end() :], True
        if self._ended:
            return ""
        match = _CERTAIN.match(self._text)
        assert match is not None
        certain = match.group()
        self._ended = self._text[len(certain) :].startswith('"')
        if not self._ended:
            certain = _HALF_PAIR.sub("", certain)
        self._text = self._text[len(certain) :]
        decoded: str = json.loads(f'"{certain}"', strict=False)
        return decoded


def custom_input(arguments: str) -> str:
    """Return the input of a custom tool from the JSON text of a call's arguments.

    If the JSON text was cut off, returns the part of the input before the cut.
    """
    return CustomInput().feed(arguments)
