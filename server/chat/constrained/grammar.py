"""Builds grammars for llguidance: calls of given tools in LFM2's syntax, or text of a given form.

A grammar is only text here. Knows neither tokens nor how a grammar is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from server.chat.constrained.call_rules import call_rules
from server.chat.constrained.value_rules import WHITESPACE, ValueRule, ValueRules, cannot_enforce, text_rule
from server.chat.json_schema.unenforced import Unenforced
from server.chat.markers import CALL_END, CALL_START
from server.chat.types import TextForm, Tool

# The same whitespace as inside JSON values; otherwise llguidance could not match both in one place.
_HEADER = f'%llguidance {{"ignore_once": true}}\n%ignore /{WHITESPACE}/\n'


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

    In mode AUTO, text around calls is free; with `text_form`, the answer is either calls or text of that form. Raises
    InvalidRequestError if a schema cannot be enforced although mode REQUIRED, the tool's `strict` or `text_form`
    demands it.
    """
    values = ValueRules()
    unenforced = Unenforced()
    rules: list[str] = []
    for i, tool in enumerate(tools):
        strict = tool.strict or mode is CallMode.REQUIRED
        rules += call_rules(f"t{i}", tool, strict=strict, values=values, unenforced=unenforced)
    calls = 'call ("," call)*' if parallel else "call"
    rules.append(f'block: "[" {calls} "]" {CALL_END}')
    rules.append("call: " + " | ".join(f"t{i}" for i in range(len(tools))))
    opens_with = None
    if text_form is not None:
        rules.append(f"start: {CALL_START} block | text")
        values.add(text_rule(text_form))
    elif mode is CallMode.REQUIRED:
        rules.append(f"start: {CALL_START} block")
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


def text_grammar(form: TextForm) -> Grammar:
    """Return a grammar of text of `form`. Raises InvalidRequestError if the form cannot be enforced."""
    values = ValueRules()
    values.add(text_rule(form))
    return Grammar("start: text\n", tuple(values.all))
