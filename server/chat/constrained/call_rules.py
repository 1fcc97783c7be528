"""Builds the grammar rules for calls of one tool.

Example of a call: `name(first=1, second="x", **{"odd name": 2})`. Arguments go after `**` if their names do not match
ARGUMENT_NAME.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from server.chat.constrained.quoted_text import quoted_text
from server.chat.constrained.value_rules import (
    CONSTANTS,
    ValueRule,
    ValueRules,
    cannot_enforce,
    json_body,
    normalized,
    value_body,
)
from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.normalized_schema import NormalizedSchema
from server.chat.json_schema.number_bounds import Node, Schema, bounded_document
from server.chat.json_schema.unenforced import Unenforced
from server.chat.tool_calls.call_syntax import ARGUMENT_NAME
from server.chat.types import Tool

COMMA = "COMMA"
"""The rule that separates arguments or calls. Every grammar with calls must define it."""


def call_rules(prefix: str, tool: Tool, *, strict: bool, values: ValueRules, unenforced: Unenforced) -> Iterator[str]:
    """Yield the grammar rules for calls of `tool`.

    prefix: name of the rule for a whole call, and start of the other rules' names.
    strict: whether an unenforceable schema is an error, instead of a message in `unenforced`.
    values: receives the rules of the argument values.

    Raises InvalidRequestError if the schema is invalid or too large, or if it is unenforceable and `strict` is set.
    """
    param = tool.field
    schema = normalized(tool.parameters, param, strict=strict)
    unenforced.extend(schema.unenforced, f"{param}.")
    try:
        parameters = _Parameters.of(schema)
    except UnenforceableError as error:
        if strict:
            raise cannot_enforce(param, str(error)) from None
        unenforced.add(f"{param}: {error}")
        parameters = _Parameters((), {"type": "object"}, False)
    values.arguments = max(values.arguments, len(parameters.named))

    def body(value: Schema, path: str, fallback: Schema) -> str:
        try:
            return value_body(schema, value)
        except UnenforceableError as error:
            if strict:
                raise cannot_enforce(param, f"{path}: {error}") from None
            unenforced.add(f"{param}.{path}: {error}")
            return json_body(bounded_document(fallback, {}))

    parts = []
    for i, (name, value, required) in enumerate(parameters.named):
        path = f"properties.{name}"
        constants = tuple(word for word, constant in CONSTANTS.items() if schema.admits(value, constant))
        argument_rule = f"{prefix}_v{i}_argument"
        text = body(value, path, True) if tool.input_form is None else quoted_text(tool.input_form)
        param = param if tool.input_form is None else tool.input_form.field
        values.add(
            ValueRule(
                f"{prefix}_v{i}", text, param, path, strict, not required, constants, arguments=((argument_rule, name),)
            )
        )
        parts.append((argument_rule, required))
    if parameters.rest is not None:
        rest = body(parameters.rest, "properties", {"type": "object"})
        values.add(ValueRule(f"{prefix}_rest", rest, param, "", strict, fallback={"type": "object"}))
        parts.append((f'"**" {prefix}_rest', parameters.rest_required))
    yield f"{prefix}: {_quoted(tool.name + '(')} {prefix}_args {_quoted(')')}"
    yield from _argument_rules(prefix, parts)


def _argument_rules(prefix: str, parts: Sequence[tuple[str, bool]]) -> Iterator[str]:
    """Yield rules for a comma-separated list of arguments in fixed order.

    prefix: start of all rule names. The rule `{prefix}_args` matches the whole list.
    parts: for each argument, its grammar and whether it is required.

    Each range of arguments has two rules: `a` if it begins the list, and `b` if a comma must precede each argument.
    Example for a required argument X and an optional argument Y, without the rules that nothing uses:

        p_args: p_a0_2
        p_a0_2: p_a0_1 p_b1_2
        p_a0_1: X
        p_b1_2: (COMMA Y)?
    """

    def name(kind: str, low: int, high: int) -> str:
        return f"{prefix}_{kind}{low}_{high}"

    def rules(low: int, high: int) -> Iterator[str]:
        if high - low == 1:
            part, required = parts[low]
            yield f"{name('a', low, high)}: {part}"
            yield f"{name('b', low, high)}: ({COMMA} {part}){'' if required else '?'}"
            return
        # Halving makes the rules log(n) levels deep. llguidance recurses: a chain of n rules could overflow its stack.
        middle = (low + high) // 2
        skipped = "" if any(required for _, required in parts[low:middle]) else f" | {name('a', middle, high)}"
        yield f"{name('a', low, high)}: {name('a', low, middle)} {name('b', middle, high)}{skipped}"
        yield f"{name('b', low, high)}: {name('b', low, middle)} {name('b', middle, high)}"
        yield from rules(low, middle)
        yield from rules(middle, high)

    if parts:
        yield from rules(0, len(parts))
        optional = "" if any(required for _, required in parts) else "?"
        yield f"{prefix}_args: {name('a', 0, len(parts))}{optional}"
    else:
        yield f'{prefix}_args: ""'


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The parameters of a tool, grouped by how their arguments are written.

    named: name, schema and whether it is required, for each argument written as `name=value`.
    rest: schema of the object after `**`; None if calls have no such object.
    rest_required: whether a call needs the object after `**`.
    """

    named: tuple[tuple[str, Schema, bool], ...]
    rest: Schema | None
    rest_required: bool

    @classmethod
    def of(cls, schema: NormalizedSchema) -> _Parameters:
        """Return the parameters that `schema` describes.

        If the root has keywords such as `anyOf`, all arguments go into the object after `**`.
        Raises UnenforceableError if the root does not admit objects.
        """
        root = schema.resolve(schema.root)
        if root is True:
            return cls((), None, False)
        if root is False or "object" not in root.get("type", ["object"]):
            raise UnenforceableError("type", "function parameters must be an object")
        if not root.keys() <= {"type", "properties", "required", "additionalProperties"}:
            return cls((), {**root, "type": "object"}, True)
        additional = root.get("additionalProperties")
        required = root.get("required", [])
        properties = dict(root.get("properties", {}))
        for name in required:
            properties.setdefault(name, True if additional is None else additional)
        named = {name: value for name, value in properties.items() if ARGUMENT_NAME.fullmatch(name)}
        odd = {name: value for name, value in properties.items() if name not in named}
        return cls(
            named=tuple(
                (name, value, name in required)
                for name, value in named.items()
                if value is not False or name in required
            ),
            rest=_rest(named, odd, required, additional) if odd or additional not in (None, False) else None,
            rest_required=any(name in required for name in odd),
        )


def _rest(
    named: Mapping[str, Schema], odd: Mapping[str, Schema], required: Sequence[str], additional: Schema | None
) -> Node:
    """Return the schema of the object after `**`.

    It admits the properties in `odd` and additional properties, but none in `named`.
    """
    return {
        "type": "object",
        "properties": {**dict.fromkeys(named, False), **odd},
        "required": [name for name in required if name in odd],
        "additionalProperties": False if additional is None else additional,
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
