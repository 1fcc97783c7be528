"""What a model may write, as Lark text for llguidance: calls of the given tools in LFM2's form, or text of a form.

Pure text: knows neither tokens nor how a grammar is compiled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from server.chat.constrained.lark import lark_of
from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.normalize import EnforceableSchema, enforceable, too_large
from server.chat.json_schema.number_bounds import Node, Schema, bounded_document
from server.chat.markers import CALL_END, CALL_START
from server.chat.tool_calls.call_syntax import ARGUMENT_NAME
from server.chat.types import TextForm, Tool
from server.errors import InvalidRequestError

MAX_CHARACTERS = 1 << 20  # of the schemas in a grammar, references copied to where they are used

# One space, or a newline with its indent, so that no model can go on in blanks.
WHITESPACE = r" |\n {0,32}|\n\t{0,8}"

# Without \uXXXX: llguidance lets an extra property spell a named one with it, and a model writes UTF-8 anyway.
_JSON_OPTIONS = {"whitespace_pattern": WHITESPACE, "json_allowed_escapes": 'nrbtf\\"'}

# The same whitespace as in JSON, or llguidance could not read both side by side.
_HEADER = f'%llguidance {{"ignore_once": true}}\n%ignore /{WHITESPACE}/\n'

_NOTHING = r"/[^\s\S]/"
_CONSTANTS = {"True": True, "False": False, "None": None}


class CallMode(StrEnum):
    """AUTO: the model may call tools. REQUIRED: its whole answer is calls."""

    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Value:
    """A rule for a value that a client gave the form of, at `where` within the request field `param`.

    `body` is that form in Lark, mostly `%json` of a schema. Where it admits nothing, an optional value is left out;
    where it cannot be compiled and is not `strict`, any value may stand in its place.
    """

    rule: str
    body: str
    param: str
    where: str
    strict: bool
    optional: bool = False
    constants: tuple[str, ...] = ()
    never: bool = False

    @property
    def lark(self) -> str:
        if self.never:
            return f"{self.rule}: {_NOTHING}\n"
        alternatives = [*(f'"{constant}"' for constant in self.constants), self.body]
        return f"{self.rule}: {' | '.join(alternatives)}\n"


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar, and for what of an answer it holds.

    That is the whole answer, or, with `opens_with`, what follows this special token: text is free up to it and after
    what the grammar accepts; then it may come again only if `repeats`. `loosened` tells what is not enforced.
    """

    structure: str
    values: tuple[Value, ...]
    opens_with: str | None = None
    repeats: bool = False
    loosened: tuple[str, ...] = ()

    @property
    def lark(self) -> str:
        """The llguidance grammar."""
        return _HEADER + self.structure + "".join(value.lark for value in self.values)

    @property
    def field(self) -> str:
        """Where in the request it comes from."""
        fields = {value.param for value in self.values}
        return fields.pop() if len(fields) == 1 else "tools"

    @property
    def size(self) -> int:
        """About how many characters that is."""
        return len(self.structure) + sum(len(value.body) for value in self.values)

    def without_refused(self, refusal: Callable[[str], str | None]) -> Grammar:
        """The same, with any value where `refusal` of a value's own grammar gives a reason.

        Raises InvalidRequestError if that value is strict.
        """
        values, loosened = [], list(self.loosened)
        for value in self.values:
            reason = refusal(f"{_HEADER}start: {value.rule}\n{value.lark}")
            if reason and value.optional and "nsatisfiable" in reason:
                value = replace(value, never=True)
            elif reason and value.strict:
                raise _cannot_enforce(value.param, f"{value.where}: {reason}" if value.where else reason)
            elif reason:
                loosened.append(f"{value.param}.{value.where}: {reason}")
                any_value: Schema = {"type": "object"} if value.rule.endswith("_rest") else True
                constants = tuple(_CONSTANTS) if any_value is True else ()
                value = replace(value, body=_json(bounded_document(any_value, {})), constants=constants)
            values.append(value)
        return replace(self, values=tuple(values), loosened=tuple(loosened))


def call_grammar(
    tools: Sequence[Tool], mode: CallMode, *, parallel: bool, text_form: TextForm | None = None
) -> Grammar:
    """Calls of `tools` (at least one) in LFM2's form, only one of them if not `parallel`.

    AUTO leaves text free; with `text_form`, the answer is calls or text of that form. Raises InvalidRequestError for
    what cannot be enforced where that was asked for: by REQUIRED, a tool's `strict`, or the text's form.
    """
    values = _Values()
    loosened: list[str] = []
    rules: list[str] = []
    for i, tool in enumerate(tools):
        strict = tool.strict or mode is CallMode.REQUIRED
        rules += _call_rules(f"t{i}", tool, strict, values, loosened)
    calls = 'call ("," call)*' if parallel else "call"
    rules.append(f'block: "[" {calls} "]" {CALL_END}')
    rules.append("call: " + " | ".join(f"t{i}" for i in range(len(tools))))
    opens_with = None
    if text_form is not None:
        rules.append(f"start: {CALL_START} block | text")
        values.add(_text_value(text_form))
    elif mode is CallMode.REQUIRED:
        rules.append(f"start: {CALL_START} block")
    else:
        rules.append("start: block")
        opens_with = CALL_START
    structure = "".join(f"{rule}\n" for rule in rules)
    return Grammar(structure, tuple(values.all), opens_with, parallel and opens_with is not None, tuple(loosened))


def text_grammar(form: TextForm) -> Grammar:
    """Text of `form`. Raises InvalidRequestError for what cannot be enforced."""
    values = _Values()
    values.add(_text_value(form))
    return Grammar("start: text\n", tuple(values.all))


def _text_value(form: TextForm) -> Value:
    if form.kind == "json":
        prepared = _enforceable(form.value, form.field, strict=True)
        body = _json(prepared.document(prepared.root))
    else:
        body = f"%lark {{\n{lark_of(form)}\n}}"  # in there blanks count
    return Value("text", body, form.field, "", strict=True)


def _call_rules(prefix: str, tool: Tool, strict: bool, values: _Values, loosened: list[str]) -> Iterator[str]:
    """Rules of the calls of one tool: `prefix` is the call; adds the rules of its arguments' values to `values`."""
    param = f"{tool.field}.parameters"
    schema = _enforceable(tool.parameters, param, strict=strict)
    loosened += [f"{param}.{what}" for what in schema.loosened]
    try:
        arguments = _Arguments.of(schema)
    except UnenforceableError as error:
        if strict:
            raise _cannot_enforce(param, str(error)) from None
        loosened.append(f"{param}: {error}")
        arguments = _Arguments((), {"type": "object"}, False)
    parts = []
    for i, (name, value, required) in enumerate(arguments.named):
        rule = f"{prefix}_v{i}"
        constants = tuple(word for word, constant in _CONSTANTS.items() if schema.admits(value, constant))
        values.add(
            Value(rule, _json(schema.document(value)), param, f"properties.{name}", strict, not required, constants)
        )
        parts.append((f"{_literal(name + '=')} {rule}", required))
    if arguments.rest is not None:
        values.add(Value(f"{prefix}_rest", _json(schema.document(arguments.rest)), param, "", strict))
        parts.append((f'"**" {prefix}_rest', arguments.rest_required))
    yield f"{prefix}: {_literal(tool.name + '(')} {prefix}_args {_literal(')')}"
    yield from _ordered(prefix, parts)


class _Values:
    """The values of a grammar in the making, limited in size."""

    def __init__(self) -> None:
        self.all: list[Value] = []
        self._characters = 0

    def add(self, value: Value) -> None:
        self._characters += len(value.body)
        if self._characters > MAX_CHARACTERS:
            raise too_large(f"it comes to more than {MAX_CHARACTERS:,} characters where it is used", value.param)
        self.all.append(value)


def _ordered(prefix: str, parts: Sequence[tuple[str, bool]]) -> Iterator[str]:
    """Rules for parts in their order, with commas between; `prefix_args` is all of them.

    For a range of parts, `a` is what may be written first, and at least one, `b` what follows something, maybe nothing.
    Ranges are halved, as llguidance recurses from rule to rule.
    """

    def name(kind: str, low: int, high: int) -> str:
        return f"{prefix}_{kind}{low}_{high}"

    def rules(low: int, high: int) -> Iterator[str]:
        if high - low == 1:
            part, required = parts[low]
            yield f"{name('a', low, high)}: {part}"
            yield f'{name("b", low, high)}: ("," {part}){"" if required else "?"}'
            return
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
class _Arguments:
    """A schema's root taken apart: name, schema and whether it is required, in order; `rest` is what `**` takes."""

    named: tuple[tuple[str, Schema, bool], ...]
    rest: Schema | None
    rest_required: bool

    @classmethod
    def of(cls, schema: EnforceableSchema) -> _Arguments:
        root = schema.resolve(schema.root)
        while isinstance(root, dict) and root.keys() == {"allOf"} and len(root["allOf"]) == 1:
            root = schema.resolve(root["allOf"][0])
        if root is True:
            return cls((), None, False)
        if root is False or "object" not in root.get("type", ["object"]):
            raise UnenforceableError("type", "the parameters of a function are an object")
        if not root.keys() <= {"type", "properties", "required", "additionalProperties"}:
            return cls((), {**root, "type": "object"}, True)
        additional = root.get("additionalProperties")
        required = root.get("required", [])
        properties = dict(root.get("properties", {}))
        for name in required:
            properties.setdefault(name, True if additional is None else additional)
        named = {name: value for name, value in properties.items() if ARGUMENT_NAME.fullmatch(name)}
        odd = {name: value for name, value in properties.items() if name not in named}
        rest: Node | None = None
        if odd or additional not in (None, False):
            rest = {
                "type": "object",
                "properties": {**dict.fromkeys(named, False), **odd},
                "required": [name for name in required if name in odd],
                "additionalProperties": False if additional is None else additional,
            }
        return cls(
            tuple(
                (name, value, name in required)
                for name, value in named.items()
                if value is not False or name in required
            ),
            rest,
            any(name in required for name in odd),
        )


def _enforceable(schema: object, param: str, *, strict: bool) -> EnforceableSchema:
    try:
        return enforceable(schema, strict=strict)
    except UnenforceableError as error:
        raise _cannot_enforce(param, str(error)) from None
    except InvalidRequestError as error:
        error.param = param
        raise


def _cannot_enforce(param: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"`{param}` cannot be enforced: {what}.", param, "invalid_json_schema")


def _json(document: Node) -> str:
    return f"%json {json.dumps({**document, 'x-guidance': _JSON_OPTIONS})}"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
