"""Builds the grammar rules of values whose form a client chose: arguments, JSON answers, regular expressions.

Knows neither how calls are written nor how a grammar is compiled.
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

MAX_CHARACTERS = 1 << 20  # of all rule bodies in a grammar; each contains a copy of the definitions that it uses

# A space, or a newline with indentation, so that a model cannot generate whitespace without end.
WHITESPACE = r" |\n {0,32}|\n\t{0,8}"

CONSTANTS = {"True": True, "False": False, "None": None}
"""Python's constants, which a model may write as the whole value of an argument."""

# Without \uXXXX: with it, llguidance would let an additional property spell the name of a declared one. Models write
# such characters in UTF-8.
_JSON_OPTIONS = {"whitespace_pattern": WHITESPACE, "json_allowed_escapes": 'nrbtf\\"'}

_NO_TEXT = r"/[^\s\S]/"


@dataclass(frozen=True, slots=True)
class ValueRule:
    """The rule `name` for values of one form, which comes from `path` in the request field `param`.

    `body` is the form in llguidance's dialect of Lark, mostly `%json` with a schema. The value may also be one of
    `constants`, which are Python's. `arguments` are (rule, name) of the arguments with such values: the rule puts the
    name before the value. If `body` cannot be compiled, a `strict` rule is an error; any other rule admits
    what the schema `fallback` admits. There is one exception: if `body` is unsatisfiable and the value is `optional`,
    it becomes `impossible`, which means that neither rule matches any text.
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
        """Return a rule that admits everything `fallback` does."""
        body = json_body(bounded_document(self.fallback, {}))
        return replace(self, body=body, constants=tuple(CONSTANTS) if self.fallback is True else ())


class ValueRules:
    """The value rules of a grammar under construction, with a limit on their total size.

    `arguments` is the number of arguments of the largest tool so far.
    """

    def __init__(self) -> None:
        self.all: list[ValueRule] = []
        self.arguments = 0
        self._characters = 0
        self._known: dict[tuple[object, ...], int] = {}

    def add(self, rule: ValueRule) -> None:
        """Add a rule. An equal one that was added before takes over its arguments.

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
    """Return the rule `text` for an answer of this form. Raises InvalidRequestError if it cannot be enforced."""
    if form.kind == "json":
        schema = normalized(form.value, form.field, strict=True)
        try:
            body = value_body(schema, schema.root)
        except UnenforceableError as error:
            raise cannot_enforce(form.field, str(error)) from None
    else:
        body = f"%lark {{\n{lark_of(form)}\n}}"  # a nested grammar, which does not ignore whitespace
    return ValueRule("text", body, form.field, "", strict=True)


def value_body(schema: NormalizedSchema, value: Schema) -> str:
    """Return the body of a rule for JSON that satisfies `value`, a part of `schema`.

    Raises UnenforceableError if its numbers cannot be enforced exactly.
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

    Raises InvalidRequestError, naming `param`, if the schema is too large or cannot be enforced.
    """
    try:
        return normalize(schema, strict=strict)
    except UnenforceableError as error:
        raise cannot_enforce(param, str(error)) from None
    except InvalidRequestError as error:
        error.param = param
        raise


def cannot_enforce(param: str, reason: str) -> InvalidRequestError:
    """Return the error for a request field whose form cannot be enforced."""
    return InvalidRequestError(f"`{param}` cannot be enforced: {reason}.", param, "invalid_json_schema")
