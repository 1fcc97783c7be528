"""Writes grammars for calls and texts in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from server.chat.constrained.call_rules import COMMA, call_rules
from server.chat.constrained.quoted_text import quoted_text
from server.chat.constrained.value_rules import (
    ValueRule,
    ValueRules,
    cannot_enforce,
    json_body,
    normalized,
    text_rule,
    value_body,
)
from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.unenforced import Unenforced
from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.call_form import CallForm
from server.chat.types import TextForm, Tool

_HEADER = "%llguidance {}\n"


class CallMode(StrEnum):
    """Whether the model may call tools (AUTO) or must answer with calls (REQUIRED)."""

    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar and the part of the answer to which it applies.

    structure: text of all rules except `values`.
    values: rules of the values that the client describes.
    opens_with: the special token after which the grammar applies; None if the whole answer must match.
    repeats: whether `opens_with` may occur again after a match.
    arguments: largest number of arguments of any tool; 0 unless calls are in LFM2's syntax.
    unenforced: messages about unenforced schema keywords.

    If `opens_with` is set, the text before this token and after the match is free.
    """

    structure: str
    values: tuple[ValueRule, ...]
    opens_with: str | None = None
    repeats: bool = False
    arguments: int = 0
    unenforced: Unenforced = field(default_factory=Unenforced)

    @property
    def lark(self) -> str:
        """The grammar in llguidance's dialect of Lark."""
        return _HEADER + self.structure + "".join(value.lark for value in self.values)

    @property
    def param(self) -> str:
        """The request field to name in errors about the whole grammar."""
        fields = {value.param for value in self.values}
        return fields.pop() if len(fields) == 1 else "tools"

    def without_uncompilable(self, compile_error: Callable[[str], str | None]) -> Grammar:
        """Return a copy in which every value rule can be compiled.

        A rule that does not compile becomes `impossible` or gets its `fallback` (see ValueRule).

        compile_error: returns why a grammar cannot be compiled, or None if it can.

        Raises InvalidRequestError if a strict rule neither compiles nor becomes `impossible`.
        """
        values, unenforced = [], Unenforced()
        unenforced.extend(self.unenforced, "")
        for value in self.values:
            reason = compile_error(f"{_HEADER}start: {value.name}\n{value.lark}")
            if reason and value.optional and "nsatisfiable" in reason:
                value = replace(value, impossible=True)
            elif reason and value.strict:
                raise cannot_enforce(value.param, f"{value.path}: {reason}" if value.path else reason)
            elif reason:
                unenforced.add(f"{value.param}.{value.path}: {reason}")
                value = value.with_fallback()
            values.append(value)
        return replace(self, values=tuple(values), unenforced=unenforced)


def call_grammar(
    tools: Sequence[Tool], mode: CallMode, *, parallel: bool, text_form: TextForm | None = None
) -> Grammar:
    """Return a grammar for calls of `tools` in LFM2's syntax.

    text_form: in mode AUTO, the form of an answer without calls; None for any text.

    Raises InvalidRequestError if `text_form` or a strict schema cannot be enforced.
    """
    values = ValueRules()
    unenforced = Unenforced()
    rules: list[str] = []
    for i, tool in enumerate(tools):
        strict = tool.strict or mode is CallMode.REQUIRED
        rules += call_rules(f"t{i}", tool, strict=strict, values=values, unenforced=unenforced)
    # The space is optional. Some models were trained without a space here and may never end the calls after one.
    rules.append(f"{COMMA}: /, ?/")
    calls = f"call ({COMMA} call)*" if parallel else "call"
    rules.append(f'block: "[" {calls} "]" {CALL_END}')
    rules.append("call: " + " | ".join(f"t{i}" for i in range(len(tools))))
    opens_with = None
    if mode is CallMode.REQUIRED:
        rules.append(f"start: {CALL_START} block")
    elif text_form is not None:
        rules.append(f"start: {CALL_START} block | text")
        values.add(text_rule(text_form))
    else:
        rules.append("start: block")
        opens_with = CALL_START
    structure = "".join(f"{rule}\n" for rule in rules)
    return Grammar(
        structure=structure,
        values=tuple(values.all),
        opens_with=opens_with,
        repeats=parallel and opens_with is not None,
        arguments=values.arguments,
        unenforced=unenforced,
    )


def json_call_grammar(
    tools: Sequence[Tool], mode: CallMode, form: CallForm, *, parallel: bool, text_form: TextForm | None = None
) -> Grammar:
    """Return a grammar for JSON calls of `tools` by models without call markers.

    text_form: in mode AUTO, the form of an answer without calls; None for any text.

    Raises InvalidRequestError if `text_form` or a strict schema cannot be enforced.
    """
    values = ValueRules()
    unenforced = Unenforced()
    rules: list[str] = []
    for i, tool in enumerate(tools):
        param, strict = tool.field, tool.strict or mode is CallMode.REQUIRED
        body = _arguments_body(tool, param, strict=strict, unenforced=unenforced)
        if tool.input_form is not None:
            name, param = json.dumps(json.dumps(tool.properties[0])), tool.input_form.field
            body = f'"{{" {name} ": " {quoted_text(tool.input_form)} "}}"'
        values.add(ValueRule(f"t{i}_arguments", body, param, "", strict, fallback={"type": "object"}))
        before, after = (
            json.dumps(t, ensure_ascii=False) for t in (form.before_arguments(tool.name), form.after_arguments)
        )
        rules.append(f"t{i}: {before} t{i}_arguments {after}")
    rules.append("call: " + " | ".join(f"t{i}" for i in range(len(tools))))
    more = "" if form.separator is None or not parallel else f" ({json.dumps(form.separator)} call)*"
    if mode is CallMode.AUTO and text_form is not None:
        values.add(text_rule(text_form))
    elif mode is CallMode.AUTO:
        rules.append(r"text: /([^\s{\[<](.|\n)*)?/")  # text that does not begin like a call
    rules.append(f"start: call{more}" + (" | text" if mode is CallMode.AUTO else ""))
    structure = "".join(f"{rule}\n" for rule in rules)
    return Grammar(structure, tuple(values.all), unenforced=unenforced)


def _arguments_body(tool: Tool, param: str, *, strict: bool, unenforced: Unenforced) -> str:
    """Return the body of a rule for the JSON object of a tool's arguments.

    strict: whether an unenforceable schema is an error, instead of a message in `unenforced`.
    """
    schema = normalized(_arguments_schema(tool), param, strict=strict)
    unenforced.extend(schema.unenforced, f"{param}.")
    try:
        return value_body(schema, schema.root)
    except UnenforceableError as error:
        if strict:
            raise cannot_enforce(param, str(error)) from None
        unenforced.add(f"{param}: {error}")
        return json_body({"type": "object"})


def _arguments_schema(tool: Tool) -> Mapping[str, Any]:
    """Return the schema of a tool's arguments.

    It forbids additional properties if the parameters use only keywords such as `type` and `properties`.
    """
    plain = tool.parameters.keys() <= {"type", "properties", "required", "$defs", "definitions", "title", "description"}
    return {**tool.parameters, "type": "object"} | ({"additionalProperties": False} if plain else {})


def text_grammar(form: TextForm) -> Grammar:
    """Return a grammar for text in `form`.

    Raises InvalidRequestError if `form` cannot be enforced.
    """
    values = ValueRules()
    values.add(text_rule(form))
    return Grammar("start: text\n", tuple(values.all))
