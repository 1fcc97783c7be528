"""An end to the numbers that a schema admits, for 1e999 is JSON but no number that can be read.

Works on normalized schemas. Where a schema leaves a value open, that becomes a reference to a definition of any value;
but not where schemas are intersected, since llguidance cannot intersect it with itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Node = dict[str, Any]
Schema = bool | Node

TYPES = ("null", "boolean", "number", "string", "array", "object")
LARGEST_NUMBER = 9_000_000_000_000_000_000  # about as far as llguidance counts

_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
_APPLICATORS = frozenset({"$ref", "anyOf", "allOf"})
_MAPS = ("properties", "patternProperties")
_LISTS = ("anyOf", "allOf", "prefixItems", "items")
_SCHEMAS = ("items", "additionalProperties", "additionalItems")

_ANY = "any"
_ANY_VALUE: Node = {"$ref": f"#/$defs/{_ANY}"}
_ANY_DEFINITION: Node = {
    "type": list(TYPES),
    "minimum": -LARGEST_NUMBER,
    "maximum": LARGEST_NUMBER,
    "items": _ANY_VALUE,
    "additionalProperties": _ANY_VALUE,
}


def bounded_document(schema: Schema, definitions: Mapping[str, Schema]) -> Node:
    """A document of `schema` and the `definitions` that it reaches, with an end to all numbers."""
    needed = {name: definitions[name] for name in sorted(_reached([schema], definitions))}
    intersections = [node for one in (schema, *needed.values()) for node in _intersections(one)]
    intersected = _reached(intersections, definitions)
    root = _bounded(schema, closed=False)
    defs: dict[str, Schema] = {name: _bounded(one, closed=name in intersected) for name, one in needed.items()}
    defs[_ANY] = _ANY_DEFINITION
    if _ANY not in _reached([root, *(defs[name] for name in needed)], defs):
        del defs[_ANY]
    return {**root, "$defs": defs} if defs else root


def _bounded(schema: Schema, *, closed: bool) -> Node:
    """`schema` with bounds on numbers, and if not `closed`, with the definition of any value where it is open."""
    if schema is False:
        return {"allOf": [False]}
    if schema is True or not schema:
        return {} if closed else _ANY_VALUE
    closed = closed or _intersects(schema)
    node = _clamped(schema)
    types = node.get("type", TYPES)
    if not closed and not node.keys() & {*_APPLICATORS, "enum", "const"}:
        node.setdefault("type", list(types))
        if "object" in types:
            node.setdefault("additionalProperties", True)
        if "array" in types:
            node.setdefault("additionalItems" if isinstance(node.get("items"), list) else "items", True)
    for keyword, value in node.items():
        if keyword in _MAPS:
            node[keyword] = {name: _inner(one, closed) for name, one in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            node[keyword] = [_inner(one, closed) for one in value]
        elif keyword in _SCHEMAS:
            node[keyword] = _inner(value, closed)
    if "number" in node.get("type", ()) and not node.keys() & {"enum", "const"}:
        if not node.keys() & set(_LOWER):
            node["minimum"] = -LARGEST_NUMBER
        if not node.keys() & set(_UPPER):
            node["maximum"] = LARGEST_NUMBER
    return node


def _inner(schema: Schema, closed: bool) -> Schema:
    return schema if schema is False or (closed and schema is True) else _bounded(schema, closed=closed)


def _clamped(node: Node) -> Node:
    clamped = dict(node)
    for keyword in (*_LOWER, *_UPPER):
        if keyword in node and not isinstance(node[keyword], bool):
            end = max(node[keyword], -LARGEST_NUMBER) if keyword in _LOWER else min(node[keyword], LARGEST_NUMBER)
            clamped[keyword] = end
    return clamped


def _intersects(node: Node) -> bool:
    """Whether a value must satisfy several schemas at once."""
    own = bool(node.keys() - _APPLICATORS)
    parts = own + ("$ref" in node) + ("anyOf" in node) + len(node.get("allOf", ()))
    return parts > 1 or bool(node.get("properties") and node.get("patternProperties"))


def _intersections(schema: Schema) -> list[Node]:
    found: list[Node] = []
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if _intersects(node):
                found.append(node)
            else:
                stack += _subschemas(node)
    return found


def _reached(schemas: Sequence[Schema], definitions: Mapping[str, Schema]) -> set[str]:
    """The definitions that `schemas` name, and those that these name."""
    reached: set[str] = set()
    stack: list[Schema] = [*schemas]
    while stack:
        node = stack.pop()
        if not isinstance(node, dict):
            continue
        name = node["$ref"].removeprefix("#/$defs/") if "$ref" in node else None
        if name is not None and name not in reached:
            reached.add(name)
            stack.append(definitions[name])
        stack += _subschemas(node)
    return reached


def _subschemas(node: Node) -> list[Schema]:
    """The schemas right inside `node`."""
    inner: list[Schema] = []
    for keyword, value in node.items():
        if keyword in _MAPS:
            inner += value.values()
        elif keyword in _LISTS and isinstance(value, list):
            inner += value
        elif keyword in _SCHEMAS:
            inner.append(value)
    return inner
