"""Converts the tools and calls of all protocols to types of the chat layer.

A custom tool takes text instead of JSON. The model sees it as a function with one argument. Example of a call: "ls" ->
`{"input": "ls"}`.
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
"""Name of the only argument of a function that stands for a custom tool."""

ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\w.:/-]+$")]

ParallelField = Annotated[
    bool | None, Field(description="Whether an answer may have several calls; true by default.", examples=[True])
]

TOOL_CHOICE = Field(
    description="Which tools to call; `auto` by default. `required` and named tools are enforced.",
    examples=["auto"],
    json_schema_extra=also({"type": "string", "enum": ["none", "auto", "required"]}),
)
"""Description of the field `tool_choice` of chat completions and responses."""


def _mode_as_object(choice: Any) -> Any:
    return {"type": choice} if isinstance(choice, str) else choice


MODE_AS_OBJECT = BeforeValidator(_mode_as_object)
"""Converts a mode such as "auto" to {"type": "auto"}."""

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
        """Return this grammar as a constraint on the tool's input.

        field: path of the definition in the request, for error messages.
        """
        return TextForm("regex" if self.syntax == "regex" else "grammar", self.definition, field)


def custom_tool(name: str, description: str | None, field: str, form: TextForm | None) -> Tool:
    """Return the function that stands for a custom tool.

    field: path of the tool in the request, for error messages.
    form: constraint on the input; None if any text is allowed.
    """
    text = {"type": "string"}
    if form is not None:
        text["description"] = f"Text that matches this {form.kind}: {form.value}"
    parameters = {"type": "object", "properties": {CUSTOM_ARGUMENT: text}, "required": [CUSTOM_ARGUMENT]}
    return Tool(name, description, parameters, strict=form is not None, field=field, input_form=form)


def custom_call(id: str, name: str, text: str) -> ToolCall:
    """Convert a call of a custom tool to a function call: "ls" -> `{"input": "ls"}`."""
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

    names: names of the tools that may be called; None if all may be.
    required: whether the model must call a tool.
    forbidden: whether calls are forbidden, whatever the other rules say.
    parallel: whether an answer may contain several calls.
    max_calls: maximum number of calls in an answer; None if unlimited.
    """
    if forbidden:
        return Calling(forbidden=bool(tools))
    callable_tools = tuple(tool for tool in tools if names is None or tool.name in names)
    return Calling(callable_tools, required, parallel, max_calls=max_calls)


class CustomInput:
    """Decodes a custom tool's input while its JSON text arrives.

    Example: `{"input": "l` yields "l", then `s"}` yields "s".
    """

    def __init__(self) -> None:
        self._text = ""
        self._in_string = False
        self._ended = False

    def feed(self, arguments: str) -> str:
        r"""Return the text that the next piece of JSON adds to the input.

        An incomplete escape sequence, such as `\u00`, waits for the next piece.
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
    """Return the custom tool's input in `arguments`: `{"input": "ls"}` -> "ls".

    `arguments` may be cut off: `{"input": "l` -> "l".
    """
    return CustomInput().feed(arguments)
