"""Proves that two JSON schemas admit no value in common.

If all branches of a `oneOf` are disjoint in pairs, at most one can match, and `oneOf` can be enforced as `anyOf`.

The proof is sound but incomplete. It collects facts that every value of a schema satisfies (its type, bounds, required
properties, possible constants), ignoring keywords it does not know. Ignoring a keyword only enlarges the set of values
considered, so if the enlarged sets are disjoint, the original ones are. If the facts or the step limit do not suffice,
the answer is False, which means "not proven".
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
    """Compares schemas of one document, within a total number of steps; `lookup` resolves references."""

    def __init__(self, lookup: Callable[[object], Any]) -> None:
        self._lookup = lookup
        self._steps = 0

    def disjoint(self, a: Any, b: Any) -> bool:
        """Return whether it is proven that no value satisfies both schemas."""
        return self._disjoint(self._facts(a), self._facts(b), 0)

    def separator(self, a: Any, b: Any) -> Node | None:
        """Return a schema that makes both disjoint if it is added to them; None if none is found.

        It requires a property that is not the same in any value of `a` and of `b`, but that a value may lack.
        """
        first, second = self._facts(a), self._facts(b)
        separators = [
            (self._facts(one).values is None, name)  # constants tell branches apart best
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
        """Return what `reference` points to; anything, once the steps are used up."""
        self._steps += 1
        return self._lookup(reference) if self._steps <= _MAX_STEPS else True

    def _disjoint(self, a: _Facts, b: _Facts, depth: int) -> bool:
        """Try the possible constants, then each common type, then the branches of anyOf and oneOf."""
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
        """Return whether it is proven that no value of type `kind` satisfies both."""
        match kind:
            case "integer" | "number":
                return _apart(a.range, b.range)
            case "string":
                return _apart(a.length, b.length)
            case "array":
                return _apart(a.items, b.items)
            case "object":
                # A property required by either schema is present in every common value, so the common value's
                # property must satisfy both schemas' conditions on it.
                return any(
                    self._disjoint(self._facts(one), self._facts(other), depth + 1)
                    for name in sorted(a.required | b.required)
                    for one in a.property_schemas(name)
                    for other in b.property_schemas(name)
                )
        return False

    def _no_alternative(self, a: _Facts, b: _Facts, depth: int) -> bool:
        """Return whether `a` has an anyOf or oneOf whose branches are all proven disjoint from `b`."""
        return any(
            all(self._disjoint(self._facts(branch), b, depth + 1) for branch in branches) for branches in a.alternatives
        )


@dataclass(slots=True)
class _Facts:
    """Conditions that every value of a schema satisfies.

    `never`: the schema admits no value. `types`: possible types, with "number" meaning non-integers only. `values`: the
    only possible values, keyed by their JSON text; None if unrestricted. `required` and `properties`: required names,
    and the schemas of each named property. `others`: (names, schema) pairs; the schema applies to all properties except
    those names. `range`, `length` and `items`: inclusive bounds of numbers, string lengths and array lengths.
    `alternatives`: the branches of each anyOf or oneOf.
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
        """Add the conditions of `schema`, ignoring those in `allOf` or references nested deeper than _MAX_DEPTH."""
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
        """Intersect the possible types and values with those of `type`, `const` and `enum`."""
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            types = [kind for kind in types if isinstance(kind, str)]
            self.types &= frozenset(types) | ({"integer"} if "number" in types else frozenset())
        for values in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if isinstance(values, list):
                texts = {json.dumps(_canonical(value), sort_keys=True): value for value in values}
                self.values = {t: v for t, v in texts.items() if self.values is None or t in self.values}

    def property_schemas(self, name: str) -> list[Any]:
        """Return the schemas that property `name` of an object must satisfy if it is present."""
        return [*self.properties.get(name, []), *(one for names, one in self.others if name not in names), True]

    def kinds(self) -> frozenset[str]:
        """Return the possible types, taking `values` into account."""
        return self.types if self.values is None else self.types & {_kind(value) for value in self.values.values()}


def _canonical(value: Any) -> Any:
    """Return 1 for 1.0, as both are the same number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value: Any) -> str:
    """Return the type of a JSON value; 1.0 is an integer."""
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
    """Intersect `bounds` with those that the keywords `low` and `high` set."""
    return max(bounds[0], _number(schema, low, bounds[0])), min(bounds[1], _number(schema, high, bounds[1]))


def _apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Return whether two ranges do not overlap."""
    return a[0] > b[1] or b[0] > a[1]
