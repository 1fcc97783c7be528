"""Builds grammars for llguidance: calls of given tools in LFM2's syntax, or text of a given form.

A grammar is only text here. Knows neither tokens nor how a grammar is compiled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from server.chat.constrained.call_rules import COMMA, call_rules
from server.chat.constrained.value_rules import ValueRule, ValueRules, cannot_enforce, normalized, text_rule, value_body
from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.unenforced import Unenforced
from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.call_form import CallForm
from server.chat.types import TextForm, Tool

_HEADER = "%llguidance {}\n"


class CallMode(StrEnum):
    """AUTO: the model may call tools. REQUIRED: its whole answer is calls."""

    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar and the part of the answer it applies to.

    `structure` holds the rules other than those of `values`. Without `opens_with`, the grammar applies to the whole
    answer. With it, text is free until this special token; the text after the token must match the grammar, and after
    the match text is free again. If `repeats`, the token may then occur again. `arguments` is the number of arguments
    of the largest tool. `unenforced` has messages about schema keywords that are not enforced.
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
        """The request field to name in errors about the grammar as a whole."""
        fields = {value.param for value in self.values}
        return fields.pop() if len(fields) == 1 else "tools"

    def without_uncompilable(self, compile_error: Callable[[str], str | None]) -> Grammar:
        """Return a grammar without value rules that cannot be compiled.

        ValueRule defines how such a rule is replaced. `compile_error` is called with the grammar of each single value
        and returns why it cannot be compiled, or None. Raises InvalidRequestError if a strict rule cannot be compiled.
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
    """Return a grammar of calls of `tools` (at least one); a single call unless `parallel`.

    In mode AUTO, text around calls is free or, with `text_form`, the answer is either calls or text of that form.
    Raises InvalidRequestError if a schema cannot be enforced although mode REQUIRED, the tool's `strict` or `text_form`
    demands it.
    """
    values = ValueRules()
    unenforced = Unenforced()
    rules: list[str] = []
    for i, tool in enumerate(tools):
        strict = tool.strict or mode is CallMode.REQUIRED
        rules += call_rules(f"t{i}", tool, strict=strict, values=values, unenforced=unenforced)
    # Where models put no space they have hardly seen one: after a space they may not find the end of the calls.
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
    """Return a grammar of calls of `tools` in `form`, for models without call markers.

    In mode AUTO, the answer is either calls or text that does not begin like a call; with `text_form`, text of that
    form. Raises InvalidRequestError as `call_grammar` does.
    """
    values = ValueRules()
    unenforced = Unenforced()
    rules: list[str] = []
    for i, tool in enumerate(tools):
        param, strict = f"{tool.field}.parameters", tool.strict or mode is CallMode.REQUIRED
        schema = normalized(_arguments_schema(tool), param, strict=strict)
        unenforced.extend(schema.unenforced, f"{param}.")
        try:
            body = value_body(schema, schema.root)
        except UnenforceableError as error:
            raise cannot_enforce(param, str(error)) from None
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
        rules.append(r"text: /([^\s{\[<](.|\n)*)?/")
    rules.append(f"start: call{more}" + (" | text" if mode is CallMode.AUTO else ""))
    structure = "".join(f"{rule}\n" for rule in rules)
    return Grammar(structure, tuple(values.all), unenforced=unenforced)


def _arguments_schema(tool: Tool) -> Mapping[str, Any]:
    """Return a tool's parameters as the schema of an object without further properties, if they do not say more."""
    plain = tool.parameters.keys() <= {"type", "properties", "required", "$defs", "definitions", "title", "description"}
    return {**tool.parameters, "type": "object"} | ({"additionalProperties": False} if plain else {})


def text_grammar(form: TextForm) -> Grammar:
    """Return a grammar of text of `form`. Raises InvalidRequestError if the form cannot be enforced."""
    values = ValueRules()
    values.add(text_rule(form))
    return Grammar("start: text\n", tuple(values.all))
