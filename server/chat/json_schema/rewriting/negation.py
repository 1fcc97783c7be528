"""Negates a schema without using the keyword `not`.

A violation of a keyword is a schema whose values break it. Example: `maxLength: 2` is a violation of `minLength: 3`.
The negation of a schema is an `anyOf` of the violations of its keywords (De Morgan's laws). The violations of some
keywords, such as `format`, cannot be written.

A negation need only be correct for values that match a second schema, `within`. This makes the negation simpler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from server.chat.json_schema.disjointness import DisjointnessProver
from server.chat.json_schema.facts import kind_of
from server.chat.json_schema.keywords import (
    FORMAT_PATTERNS,
    FORMATS,
    READERS,
    UNSUPPORTED,
    UnenforceableError,
    count_of,
    list_of,
    mapping_of,
    names_of,
    pattern_of,
    types_of,
)
from server.chat.json_schema.number_bounds import TYPES, Node, Schema
from server.chat.json_schema.patterns.algebra import PatternAlgebra
from server.chat.json_schema.patterns.parser import UnreadablePatternError
from server.chat.json_schema.references import References
from server.chat.json_schema.rewriting.violations import (
    Scope,
    Violation,
    constant,
    gaps,
    missing,
    no_negation,
    of_length,
    of_number,
    pairs,
    raise_,
    structure,
    without_property,
)

MAX_STEPS = 5_000
MAX_NEGATIONS = 20  # levels of nested schemas that are negated
MAX_ITEMS = 20  # positions in an array at which a violation is written


class Negator:
    """A writer of negations for one document's schemas, with a limit on its steps."""

    def __init__(self, references: References, prover: DisjointnessProver, patterns: PatternAlgebra) -> None:
        self._references = references
        self._prover = prover
        self._patterns = patterns
        self._steps = 0

    def negation(self, schema: Any, where: str, *, within: Any, lossy: bool = False) -> Schema:
        """Return a negation of `schema` that is correct for values matching `within`.

        lossy: whether to omit violations that cannot be written, if others remain.

        Raises UnenforceableError if the negation cannot be written.
        """
        return self._negation(schema, Scope(where, within, lossy))

    def _negation(self, schema: Any, scope: Scope) -> Schema:
        self._step(scope)
        if isinstance(schema, bool):
            return not schema
        if not isinstance(schema, dict) or scope.depth >= MAX_NEGATIONS:
            raise no_negation(scope)
        if self._prover.disjoint(scope.within, schema):
            return True
        schema = self._references.effective(schema)
        alternatives: list[Schema] = []
        error = None
        for keyword in schema:
            try:
                violations = self._violations(keyword, schema, scope)
            except UnenforceableError as invalid:
                violations = [partial(raise_, invalid)]
            for violation in violations:
                self._step(scope)
                try:
                    alternative = violation()
                except UnenforceableError as missing:
                    if not scope.lossy:
                        raise
                    error = missing
                    continue
                if not self._prover.disjoint(scope.within, alternative):
                    alternatives.append(alternative)
        if error is not None and not alternatives:
            raise error
        return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives} if alternatives else False

    def _step(self, scope: Scope) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise no_negation(scope)

    def _violations(self, keyword: str, schema: Node, scope: Scope) -> Sequence[Violation]:
        value, where = schema[keyword], scope.where
        same = scope.inside(scope.within)
        match keyword:
            case "const":
                return self._none_of([value], scope)
            case "enum":
                return self._none_of(list_of(value, where), scope)
            case "type":
                return self._other_types(types_of(value, where), scope)
            case "not":
                return [lambda: value]
            case "allOf":
                return [partial(self._negation, one, same) for one in list_of(value, where)]
            case "anyOf":
                return [partial(self._none, list_of(value, where), same)]
            case "oneOf":
                return [partial(self._none, list_of(value, where), same), *pairs(list_of(value, where), scope)]
            case "$ref":
                return [partial(self._negation, self._references.lookup(value, where), same)]
            case "if":
                return self._of_condition(value, schema.get("then", True), schema.get("else", True), same)
            case "dependencies" | "dependentRequired" | "dependentSchemas":
                return [partial(self._unmet, name, one, same) for name, one in mapping_of(value, where).items()]
            case "required" | "properties" | "patternProperties" | "additionalProperties" | "minProperties":
                return self._of_object(keyword, schema, scope)
            case "items" | "prefixItems" | "additionalItems" | "contains" | "minItems" | "maxItems":
                return self._of_array(keyword, schema, scope)
            case "minLength" | "maxLength" | "pattern":
                return self._of_string(keyword, value, scope)
            case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
                return of_number(keyword, schema, where)
            case _ if keyword in (*READERS, *UNSUPPORTED, "propertyNames"):
                raise no_negation(scope)
            case "format" | "uniqueItems" if value is True or value in (*FORMATS, *FORMAT_PATTERNS):
                raise no_negation(scope)
        return []

    def _of_condition(self, condition: Any, then: Any, otherwise: Any, scope: Scope) -> Sequence[Violation]:
        return [
            lambda: {"allOf": [condition, self._negation(then, scope)]},
            lambda: {"allOf": [self._negation(condition, scope), self._negation(otherwise, scope)]},
        ]

    def _none(self, schemas: Sequence[Any], scope: Scope) -> Schema:
        """Return a schema for the values that satisfy none of `schemas`."""
        return {"allOf": [self._negation(one, scope) for one in schemas]}

    def _unmet(self, name: str, dependency: Any, scope: Scope) -> Schema:
        then = {"required": dependency} if isinstance(dependency, list) else dependency
        return {"allOf": [{"type": "object", "required": [name]}, self._negation(then, scope)]}

    def _other_types(self, types: Sequence[str], scope: Scope) -> Sequence[Violation]:
        others = [name for name in TYPES if name not in types and not (name == "number" and "integer" in types)]
        fractions = "integer" in types and "number" not in types and "number" in self._kinds(scope)
        return [*([missing(scope)] if fractions else []), lambda: {"type": others} if others else False]

    def _kinds(self, scope: Scope) -> frozenset[str]:
        return self._prover.facts(scope.within).kinds()

    def _none_of(self, values: Sequence[Any], scope: Scope) -> Sequence[Violation]:
        """Return the violations of an `enum` with these values."""
        by_type: dict[str, list[Any]] = {}
        for value in values:
            self._step(scope)
            if not self._prover.disjoint(scope.within, {"const": value}):
                kind = kind_of(value)
                by_type.setdefault("number" if kind == "integer" else kind, []).append(value)
        violations: list[Violation] = [lambda: {"type": [name for name in TYPES if name not in by_type]}]
        for kind, some in by_type.items():
            match kind:
                case "boolean":
                    violations += [partial(constant, one) for one in (True, False) if one not in some]
                case "number":
                    violations += gaps(sorted(some))
                case "string":
                    violations.append(partial(self._other_strings, partial(self._patterns.without, some), scope))
                case "array" | "object":
                    inner = scope.inside({"allOf": [scope.within, {"type": kind}]})
                    violations.append(partial(self._none, [structure(one) for one in some], inner))
        return violations

    def _other_strings(self, others: Callable[[], str | None], scope: Scope) -> Schema:
        try:
            pattern = others()
        except UnreadablePatternError:
            raise no_negation(scope) from None
        return False if pattern is None else {"type": "string", "pattern": pattern}

    def _of_string(self, keyword: str, value: Any, scope: Scope) -> Sequence[Violation]:
        if keyword == "pattern":
            pattern = pattern_of(value, scope.where)
            return [partial(self._other_strings, partial(self._patterns.others, pattern), scope)]
        return of_length(keyword, "string", count_of(value, scope.where))

    def _of_array(self, keyword: str, schema: Node, scope: Scope) -> Sequence[Violation]:
        value = schema[keyword]
        if keyword in ("minItems", "maxItems"):
            return of_length(keyword, "array", count_of(value, scope.where))
        if keyword == "contains":
            if schema.keys() & {"minContains", "maxContains"}:
                raise no_negation(scope)
            return [lambda: {"type": "array", "items": self._negation(value, scope.inside(True))}]
        if isinstance(value, list):
            return [partial(self._item, i, one, scope) for i, one in enumerate(value)]
        first = schema.get("items" if keyword == "additionalItems" else "prefixItems", [])
        if keyword == "additionalItems" and not isinstance(first, list):
            return []  # has no effect without a list of first items
        start, size = len(list_of(first, scope.where)), self._prover.facts(scope.within).size[1][0]
        if value is False:
            return [partial(self._item, start, value, scope)]
        if size <= start + MAX_ITEMS:
            return [partial(self._item, i, value, scope) for i in range(start, int(size))]
        return [missing(scope), partial(self._item, start, value, scope)]

    def _item(self, position: int, schema: Any, scope: Scope) -> Schema:
        """Return a schema for the arrays whose item at `position` violates `schema`."""
        if position > MAX_ITEMS:
            raise no_negation(scope)
        within = {"allOf": self._prover.facts(scope.within).item_schemas(position)}
        never = self._negation(schema, scope.inside(within))
        array: Node = {"type": "array", "minItems": position + 1}
        return array if never is True else {**array, "prefixItems": [*[True] * position, never]}

    def _of_object(self, keyword: str, schema: Node, scope: Scope) -> Sequence[Violation]:
        value, where = schema[keyword], scope.where
        match keyword:
            case "required":
                return [partial(without_property, name) for name in names_of(value, where)]
            case "properties":
                return [partial(self._property, name, one, scope) for name, one in mapping_of(value, where).items()]
            case "minProperties" if count_of(value, where) <= 1:
                return [lambda: {"type": "object", "additionalProperties": False}] if value else []
            case "patternProperties":
                return [
                    violation
                    for pattern, one in mapping_of(value, where).items()
                    for violation in self._matching(pattern, one, scope)
                ]
            case "additionalProperties":
                listed = mapping_of(schema.get("properties", {}), where)
                patterns = list(mapping_of(schema.get("patternProperties", {}), where))
                names = [
                    name
                    for name in self._names(scope)
                    if name not in listed and all(self._patterns.matches(one, name) is False for one in patterns)
                ]
                complete = self._is_closed(scope) and not patterns
                violations = [partial(self._property, name, value, scope) for name in names]
                return violations if complete else [missing(scope), *violations]
        raise no_negation(scope)

    def _matching(self, pattern: str, schema: Any, scope: Scope) -> Sequence[Violation]:
        """Return the violations of `schema` by properties whose names match `pattern`."""
        names = {name: self._patterns.matches(pattern, name) for name in self._names(scope)}
        complete = self._is_closed(scope) and None not in names.values()
        violations = [partial(self._property, name, schema, scope) for name, matches in names.items() if matches]
        return violations if complete else [missing(scope), *violations]

    def _property(self, name: str, schema: Any, scope: Scope) -> Schema:
        """Return a schema for the objects in which the property `name` violates `schema`."""
        within = {"allOf": self._prover.property_schemas(self._prover.facts(scope.within), name)}
        never = self._negation(schema, scope.inside(within))
        node: Node = {"type": "object", "required": [name]}
        return node if never is True else {**node, "properties": {name: never}}

    def _names(self, scope: Scope) -> Sequence[str]:
        """Return the properties that the schema `scope.within` lists or requires."""
        facts = self._prover.facts(scope.within)
        return sorted({*facts.properties, *facts.required})

    def _is_closed(self, scope: Scope) -> bool:
        """Return whether `scope.within` allows only properties that it lists by name."""
        others = self._prover.facts(scope.within).others
        return any(schema is False and not patterns for _, patterns, schema in others)
