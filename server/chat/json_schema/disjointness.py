"""Proves that two JSON schemas are disjoint: no value satisfies both.

If the branches of a `oneOf` are pairwise disjoint, at most one of them can match. `oneOf` can then be enforced as
`anyOf`.

The proof is sound but incomplete. It collects facts that are true of every value of a schema: the type, bounds,
required properties and possible constants. It ignores all other keywords. Ignoring a keyword can only enlarge the set
of values, so if the enlarged sets are disjoint, the original sets are disjoint, too. If the facts or the step limit do
not suffice, the result is False, which means "not proven".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from server.chat.json_schema.number_bounds import Node

_MAX_DEPTH = 6
_MAX_STEPS = 5_000
_UNBOUNDED = (float("-inf"), float("inf"))
_ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


class DisjointnessProver:
    """A prover for the schemas of one document, with a limit on its steps.

    lookup: returns the schema that a reference points to.
    """

    def __init__(self, lookup: Callable[[object], Any]) -> None:
        self._lookup = lookup
        self._steps = 0

    def disjoint(self, a: Any, b: Any) -> bool:
        """Return whether `a` and `b` are proven disjoint."""
        return self._disjoint(self._facts(a), self._facts(b), 0)

    def separator(self, a: Any, b: Any) -> Node | None:
        """Return a schema that makes `a` and `b` disjoint if added to both, or None.

        The returned schema requires a property for which `a` and `b` have disjoint schemas. If the property were
        optional, an object without it could satisfy both `a` and `b`.
        """
        first, second = self._facts(a), self._facts(b)
        separators = [
            (self._facts(one).values is None, name)  # sorts properties with constant values first
            for name, schemas in first.properties.items()
            for one in schemas
            if any(self.disjoint(one, other) for other in second.properties.get(name, ()))
        ]
        if not separators:
            return None
        return {"type": "object", "required": [min(separators, key=lambda found: found[0])[1]]}

    def _facts(self, schema: Any) -> _Facts:
        facts = _Facts()
        facts.add(schema, self._resolved, 0)
        return facts

    def _resolved(self, reference: object) -> Any:
        """Return the schema that `reference` points to.

        Once the step limit is exceeded, returns True instead. The schema True admits any value.
        """
        self._steps += 1
        return self._lookup(reference) if self._steps <= _MAX_STEPS else True

    def _disjoint(self, a: _Facts, b: _Facts, depth: int) -> bool:
        """Return whether the schemas with the facts `a` and `b` are proven disjoint.

        Compares the possible constants, then each common type, then the branches of `anyOf` and `oneOf`.
        """
        self._steps += 1
        if a.never or b.never:
            return True
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return False
        if a.values is not None and b.values is not None and not a.values.keys() & b.values.keys():
            return True
        if all(self._disjoint_as(kind, a, b, depth) for kind in a.kinds() & b.kinds()):
            return True
        return self._no_alternative(a, b, depth) or self._no_alternative(b, a, depth)

    def _disjoint_as(self, kind: str, a: _Facts, b: _Facts, depth: int) -> bool:
        """Return whether no value of type `kind` can have the facts `a` and `b`.

        False means "not proven".
        """
        match kind:
            case "integer" | "number":
                return _apart(a.range, b.range)
            case "string":
                return _apart(a.length, b.length)
            case "array":
                return _apart(a.items, b.items)
            case "object":
                # If either schema requires a property, every object that satisfies both schemas has the property. Its
                # value must satisfy the conditions of both schemas. If no value can, no such object exists.
                return any(
                    self._disjoint(self._facts(one), self._facts(other), depth + 1)
                    for name in sorted(a.required | b.required)
                    for one in a.property_schemas(name)
                    for other in b.property_schemas(name)
                )
        return False

    def _no_alternative(self, a: _Facts, b: _Facts, depth: int) -> bool:
        """Return whether `b` is disjoint from all branches of an alternative in `a`.

        An alternative is an `anyOf` or a `oneOf`. False means "not proven".
        """
        return any(
            all(self._disjoint(self._facts(branch), b, depth + 1) for branch in branches) for branches in a.alternatives
        )


@dataclass(slots=True)
class _Facts:
    """Conditions that every value of a schema satisfies.

    never: whether the schema admits no value.
    types: the possible types. In this set, "number" means only numbers that are not integers.
    values: the only possible values, by their JSON text; None if the values are not restricted.
    required: the names of required properties.
    properties: for each property, the schemas that it must satisfy if it is present.
    others: pairs of a set of names and a schema. Each property whose name is not in the set must satisfy the schema.
    range: the inclusive bounds of a number.
    length: the inclusive bounds of the length of a string.
    items: the inclusive bounds of the length of an array.
    alternatives: the branches of each `anyOf` or `oneOf`.
    """

    never: bool = False
    types: frozenset[str] = _ALL_TYPES
    values: dict[str, Any] | None = None
    required: set[str] = field(default_factory=set)
    properties: dict[str, list[Any]] = field(default_factory=dict)
    others: list[tuple[frozenset[str], Any]] = field(default_factory=list)
    range: tuple[float, float] = _UNBOUNDED
    length: tuple[float, float] = _UNBOUNDED
    items: tuple[float, float] = _UNBOUNDED
    alternatives: list[list[Any]] = field(default_factory=list)

    def add(self, schema: Any, lookup: Callable[[object], Any], depth: int) -> None:
        """Add the conditions of `schema`, of its `allOf` and of its references.

        lookup: returns the schema that a reference points to.
        depth: the number of schemas around `schema`. If it exceeds _MAX_DEPTH, the conditions are not added.
        """
        if schema is False:
            self.never = True
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return
        if "$ref" in schema:
            self.add(lookup(schema["$ref"]), lookup, depth + 1)
        if isinstance(schema.get("allOf"), list):
            for one in schema["allOf"]:
                self.add(one, lookup, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if isinstance(schema.get(keyword), list):
                self.alternatives.append(schema[keyword])
        self._add_type_and_values(schema)
        if isinstance(schema.get("required"), list):
            self.required.update(name for name in schema["required"] if isinstance(name, str))
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        for name, one in properties.items():
            self.properties.setdefault(name, []).append(one)
        if "additionalProperties" in schema and not schema.get("patternProperties"):
            self.others.append((frozenset(properties), schema["additionalProperties"]))
        self.range = _narrowed(self.range, schema, "minimum", "maximum")
        self.length = _narrowed(self.length, schema, "minLength", "maxLength")
        self.items = _narrowed(self.items, schema, "minItems", "maxItems")

    def _add_type_and_values(self, schema: Mapping[str, Any]) -> None:
        """Remove the types and values that `type`, `const` or `enum` of `schema` excludes."""
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            types = [kind for kind in types if isinstance(kind, str)]
            self.types &= frozenset(types) | ({"integer"} if "number" in types else frozenset())
        for values in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if isinstance(values, list):
                texts = {json.dumps(_canonical(value), sort_keys=True): value for value in values}
                self.values = {t: v for t, v in texts.items() if self.values is None or t in self.values}

    def property_schemas(self, name: str) -> list[Any]:
        """Return the schemas that the property `name` must satisfy if it is present."""
        return [*self.properties.get(name, []), *(one for names, one in self.others if name not in names), True]

    def kinds(self) -> frozenset[str]:
        """Return the types that both `types` and `values` allow."""
        return self.types if self.values is None else self.types & {_kind(value) for value in self.values.values()}


def _canonical(value: Any) -> Any:
    """Convert a float without a fraction to the equal integer.

    JSON does not distinguish 1.0 from 1.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value: Any) -> str:
    """Return the type of a JSON value.

    A float without a fraction, such as 1.0, is an integer.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _number(schema: Mapping[str, Any], keyword: str, default: float) -> float:
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _narrowed(bounds: tuple[float, float], schema: Mapping[str, Any], low: str, high: str) -> tuple[float, float]:
    """Return `bounds`, narrowed by the keywords `low` and `high` of `schema`."""
    return max(bounds[0], _number(schema, low, bounds[0])), min(bounds[1], _number(schema, high, bounds[1]))


def _apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Return whether two ranges do not overlap."""
    return a[0] > b[1] or b[0] > a[1]
