"""Collects conditions that a value must satisfy to match a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

Bound = tuple[float, int]  # a number, and 0 if a value may equal it, 1 if it must be larger, -1 if it must be smaller
Bounds = tuple[Bound, Bound]
_UNBOUNDED: Bounds = ((float("-inf"), 0), (float("inf"), 0))


@dataclass(slots=True)
class Facts:
    """Conditions that a value must satisfy to match a schema.

    never: whether the schema admits no value.
    types: the possible types. Here, "number" excludes integers.
    values: the only possible values, by their JSON text. None if any value is possible.
    properties: for each property, the schemas that it must satisfy if present.
    others: (names, patterns, schema) for each `additionalProperties`. The schema applies to any property that is not in
        names and matches none of the patterns.
    range: bounds on a number.
    length: bounds on the length of a string.
    size: bounds on the length of an array.
    items: pairs (schemas of the first items, schema of further items). An array satisfies each pair.
    alternatives: for each `anyOf` or `oneOf`, its branches.
    """

    never: bool = False
    types: frozenset[str] = _ALL_TYPES
    values: dict[str, Any] | None = None
    required: set[str] = field(default_factory=set)
    properties: dict[str, list[Any]] = field(default_factory=dict)
    others: list[tuple[frozenset[str], tuple[str, ...], Any]] = field(default_factory=list)
    range: Bounds = _UNBOUNDED
    length: Bounds = _UNBOUNDED
    patterns: list[str] = field(default_factory=list)
    size: Bounds = _UNBOUNDED
    items: list[tuple[list[Any], Any]] = field(default_factory=list)
    alternatives: list[list[Any]] = field(default_factory=list)

    def add(self, schema: Any, visit: Callable[[Any], tuple[Any, Any]], depth: int) -> None:
        """Add the conditions of `schema`, its `allOf` and its references.

        visit: returns a pair for a schema: the schema without keywords that its draft ignores, and the target of its
            `$ref`. The target is None if there is no `$ref` or it cannot be followed.
        depth: number of levels of nested schemas to follow.
        """
        if schema is False:
            self.never = True
        if not isinstance(schema, dict) or depth < 0:
            return
        schema, target = visit(schema)
        if target is not None:
            self.add(target, visit, depth - 1)
        for one in _list(schema.get("allOf")):
            self.add(one, visit, depth - 1)
        self.alternatives += [schema[name] for name in ("anyOf", "oneOf") if isinstance(schema.get(name), list)]
        self._add_type_and_values(schema)
        self._add_properties(schema)
        self._add_items(schema)
        self.range = _narrowed(self.range, schema, "minimum", "maximum")
        self.range = _narrowed(self.range, schema, "exclusiveMinimum", "exclusiveMaximum", exclusive=1)
        self.length = _narrowed(self.length, schema, "minLength", "maxLength")
        self.size = _narrowed(self.size, schema, "minItems", "maxItems")
        if isinstance(schema.get("pattern"), str):
            self.patterns.append(schema["pattern"])

    def _add_type_and_values(self, schema: Mapping[str, Any]) -> None:
        """Keep only the types and values that `schema` allows."""
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            if types and all(isinstance(kind, str) and kind in _ALL_TYPES for kind in types):  # others are ignored
                self.types &= frozenset(types) | ({"integer"} if "number" in types else frozenset())
        for values in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if isinstance(values, list):
                texts = {canonical(value): value for value in values}
                self.values = {t: v for t, v in texts.items() if self.values is None or t in self.values}

    def _add_properties(self, schema: Mapping[str, Any]) -> None:
        self.required.update(name for name in _list(schema.get("required")) if isinstance(name, str))
        properties = _mapping(schema.get("properties"))
        for name, one in properties.items():
            self.properties.setdefault(name, []).append(one)
        if "additionalProperties" in schema:
            patterns = tuple(_mapping(schema.get("patternProperties")))
            self.others.append((frozenset(properties), patterns, schema["additionalProperties"]))

    def _add_items(self, schema: Mapping[str, Any]) -> None:
        items = schema.get("items", True)
        if isinstance(items, list):
            self.items.append((items, schema.get("additionalItems", True)))
        elif schema.keys() & {"items", "prefixItems"}:
            self.items.append((_list(schema.get("prefixItems")), items))

    def item_schemas(self, position: int) -> list[Any]:
        """Return the schemas that the item at `position` must satisfy if present."""
        return [first[position] if position < len(first) else rest for first, rest in self.items]

    def kinds(self) -> frozenset[str]:
        """Return the types that both `types` and `values` allow."""
        return self.types if self.values is None else self.types & {kind_of(value) for value in self.values.values()}


def canonical(value: Any) -> str:
    """Return `value` as JSON text, the same for equal values such as 1 and 1.0."""
    return json.dumps(json.loads(json.dumps(value), parse_float=_number), sort_keys=True)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def kind_of(value: Any) -> str:
    """Return the JSON Schema type of a value. 1.0 is an integer."""
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


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _narrowed(bounds: Bounds, schema: Mapping[str, Any], low: str, high: str, *, exclusive: int = 0) -> Bounds:
    """Return `bounds`, narrowed by the keywords `low` and `high` of `schema`.

    exclusive: 1 if the bounds exclude the keywords' values, otherwise 0.
    """
    least, greatest = bounds
    if _is_number(schema.get(low)):
        least = max(least, (schema[low], exclusive))
    if _is_number(schema.get(high)):
        greatest = min(greatest, (schema[high], -exclusive))
    return least, greatest


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
