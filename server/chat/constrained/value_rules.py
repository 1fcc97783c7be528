"""Builds the grammar rules of values that a client describes.

Examples are arguments, JSON answers, and texts that match a regex.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from server.chat.constrained.lark import lark_of
from server.chat.json_schema.exact_numbers import exact_rule, is_exact
from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.normalize import normalize, too_large
from server.chat.json_schema.normalized_schema import NormalizedSchema
from server.chat.json_schema.number_bounds import Node, Schema, bounded_document
from server.chat.types import TextForm
from server.errors import InvalidRequestError

MAX_CHARACTERS = 1 << 20  # in all rule bodies of a grammar; each body contains a copy of the definitions that it uses

# One space, or one newline with limited indentation. Otherwise a model might generate whitespace endlessly.
WHITESPACE = r" |\n {0,32}|\n\t{0,8}"

CONSTANTS = {"True": True, "False": False, "None": None}
"""The Python constants that may be the whole value of an argument."""

# The escape \uXXXX is not allowed: with this escape, llguidance would let an additional property have the name of a
# declared property. Models do not need the escape, because they write all characters in UTF-8.
_JSON_OPTIONS = {"whitespace_pattern": WHITESPACE, "json_allowed_escapes": 'nrbtf\\"'}

_NO_TEXT = r"/[^\s\S]/"


@dataclass(frozen=True, slots=True)
class ValueRule:
    """The grammar rule of a value that a client describes.

    body: the value in llguidance's dialect of Lark, usually `%json` with a schema.
    param: request field that describes the value.
    path: path of the description within this field.
    strict: whether a body that cannot be compiled is an error.
    optional: whether the value may be absent. If no text matches `body`, the rule becomes `impossible`.
    constants: Python constants that the value may also be.
    fallback: schema for a body that cannot be compiled, if the rule is not strict.
    impossible: whether the value must be absent. The rule then matches no text.
    arguments: the arguments with this value, as pairs (rule name, argument name).
    """

    name: str
    body: str
    param: str
    path: str
    strict: bool
    optional: bool = False
    constants: tuple[str, ...] = ()
    fallback: Schema = True
    impossible: bool = False
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def lark(self) -> str:
        """The rule in llguidance's dialect of Lark."""
        alternatives = [*(f'"{constant}"' for constant in self.constants), self.body]
        rules = f"{self.name}: {_NO_TEXT if self.impossible else ' | '.join(alternatives)}\n"
        for rule, argument in self.arguments:
            named = f"{json.dumps(argument + '=', ensure_ascii=False)} {self.name}"
            rules += f"{rule}: {_NO_TEXT if self.impossible else named}\n"
        return rules

    def with_fallback(self) -> ValueRule:
        """Return a copy whose body and constants come from `fallback`."""
        body = json_body(bounded_document(self.fallback, {}))
        return replace(self, body=body, constants=tuple(CONSTANTS) if self.fallback is True else ())


class ValueRules:
    """The value rules of a grammar under construction, limited in total size.

    arguments: largest number of arguments of a tool so far.
    """

    def __init__(self) -> None:
        self.all: list[ValueRule] = []
        self.arguments = 0
        self._characters = 0
        self._known: dict[tuple[object, ...], int] = {}

    def add(self, rule: ValueRule) -> None:
        """Add a rule, or only its arguments if an equal rule exists.

        Raises InvalidRequestError if all bodies together exceed MAX_CHARACTERS.
        """
        key = (rule.body, rule.constants, rule.param, rule.strict, rule.optional)
        if rule.arguments and (known := self._known.setdefault(key, len(self.all))) < len(self.all):
            one = self.all[known]
            self.all[known] = replace(one, arguments=one.arguments + rule.arguments)
            return
        self._characters += len(rule.body)
        if self._characters > MAX_CHARACTERS:
            reason = f"it exceeds {MAX_CHARACTERS:,} characters once its references are expanded"
            raise too_large(reason, rule.param)
        self.all.append(rule)


def text_rule(form: TextForm) -> ValueRule:
    """Return the rule `text` for an answer that matches `form`.

    Raises InvalidRequestError if `form` cannot be enforced.
    """
    if form.kind == "json":
        schema = normalized(form.value, form.field, strict=True)
        try:
            body = value_body(schema, schema.root)
        except UnenforceableError as error:
            raise cannot_enforce(form.field, str(error)) from None
    else:
        body = f"%lark {{\n{lark_of(form)}\n}}"  # whitespace is significant in a nested grammar
    return ValueRule("text", body, form.field, "", strict=True)


def value_body(schema: NormalizedSchema, value: Schema) -> str:
    """Return the body of a rule for JSON that satisfies `value`, a part of `schema`.

    Raises UnenforceableError if numbers in `value` cannot be enforced exactly.
    """
    document = schema.document(value)
    if is_exact(document):
        return json_body(document)
    resolved = schema.resolve(value)
    return exact_rule(resolved if isinstance(resolved, dict) else document)


def json_body(schema: Node) -> str:
    """Return the body of a rule for JSON that satisfies `schema`."""
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"


def normalized(schema: object, param: str, *, strict: bool) -> NormalizedSchema:
    """Normalize the schema in the request field `param`.

    strict: whether an unenforceable keyword is an error.

    Raises InvalidRequestError, naming `param`, if the schema is invalid, too large or unenforceable.
    """
    try:
        return normalize(schema, strict=strict)
    except UnenforceableError as error:
        raise cannot_enforce(param, str(error)) from None
    except InvalidRequestError as error:
        error.param = param
        raise


def cannot_enforce(param: str, reason: str) -> InvalidRequestError:
    """Return the error for a request field that cannot be enforced.

    reason: end of the error message, without a full stop.
    """
    return InvalidRequestError(f"`{param}` cannot be enforced: {reason}.", param, "invalid_json_schema")
