"""Whether two JSON schemas can hold for the same value: what `oneOf` needs to be enforced as `anyOf`.

It proves disjointness or gives up; nothing else is known here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_DEPTH = 6
_MAX_STEPS = 5_000
_UNBOUNDED = (float("-inf"), float("inf"))
_ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


class DisjointnessProver:
    """Compares schemas of one document; `lookup` gives what a reference points to. It gives up after a while."""

    def __init__(self, lookup: Callable[[object], Any]) -> None:
        self._lookup = lookup
        self._steps = 0

    def disjoint(self, a: Any, b: Any) -> bool:
        """Whether it is certain that no value satisfies both schemas."""
        return self._disjoint(self._facts(a), self._facts(b), 0)

    def _facts(self, schema: Any) -> _Facts:
        facts = _Facts()
        facts.add(schema, self._lookup, 0)
        return facts

    def _disjoint(self, a: _Facts, b: _Facts, depth: int) -> bool:
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
        match kind:
            case "integer" | "number":
                return _apart(a.range, b.range)
            case "string":
                return _apart(a.length, b.length)
            case "array":
                return _apart(a.items, b.items)
            case "object":
                # A property that one of them requires is there, so what either says of it holds.
                return any(
                    self._disjoint(self._facts(one), self._facts(other), depth + 1)
                    for name in sorted(a.required | b.required)
                    for one in a.property_schemas(name)
                    for other in b.property_schemas(name)
                )
        return False

    def _no_alternative(self, a: _Facts, b: _Facts, depth: int) -> bool:
        return any(
            all(self._disjoint(self._facts(branch), b, depth + 1) for branch in branches) for branches in a.alternatives
        )


@dataclass(slots=True)
class _Facts:
    """What must be true of a value that a schema admits.

    `types` counts integers apart from other numbers; `values` are the JSON texts of the only values, None if there is
    no such list; `alternatives` has, for each anyOf or oneOf, the facts of its branches, one of which must hold.
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
        """Takes in what `schema` says; what lies too deep is left out."""
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
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            types = [kind for kind in types if isinstance(kind, str)]
            self.types &= frozenset(types) | ({"integer"} if "number" in types else frozenset())
        for values in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if isinstance(values, list):
                texts = {json.dumps(_canonical(value), sort_keys=True): value for value in values}
                self.values = {t: v for t, v in texts.items() if self.values is None or t in self.values}

    def property_schemas(self, name: str) -> list[Any]:
        """The schemas that hold for a property, if a value is an object and has it."""
        return [*self.properties.get(name, []), *(one for names, one in self.others if name not in names), True]

    def kinds(self) -> frozenset[str]:
        """The types that a value may have."""
        return self.types if self.values is None else self.types & {_kind(value) for value in self.values.values()}


def _canonical(value: Any) -> Any:
    """1.0 and 1 are one number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(value: Any) -> str:
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
    return max(bounds[0], _number(schema, low, bounds[0])), min(bounds[1], _number(schema, high, bounds[1]))


def _apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] > b[1] or b[0] > a[1]
