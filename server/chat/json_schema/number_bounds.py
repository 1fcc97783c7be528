"""Bounds all numbers in a schema, so that JSON parsers can represent them.

JSON's syntax allows 1e999, which most parsers read as infinity. A schema without restrictions admits these numbers.
It is therefore replaced by a reference to the definition "any", which admits any value with bounded numbers.

llguidance intersects schemas for the same value, as in `allOf`. It cannot intersect "any" with itself. A schema
without restrictions is therefore not replaced if it is intersected.

llguidance 1.9.1 admits an exclusive integer bound if the other bound has the same integer part and lies farther from
zero: 10 for numbers between 10 and 10.5, even if the bounds come from intersected schemas. `_clamped` works around
that. It leaves the farther bounds as they are, because llguidance refuses 0.9 if the maximum is 0.999.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Node = dict[str, Any]
Schema = bool | Node

TYPES = ("null", "boolean", "number", "string", "array", "object")
LARGEST_NUMBER = 9_000_000_000_000_000_000  # just below 2**63, about the largest bound that llguidance supports

_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
_NEXT_TO_ZERO = 1e-50  # llguidance cannot compile bounds much closer to 0
_NEXT = 2.0**-48  # relative to the bound: some 20 floats away, because llguidance may read a neighboring float
_FAR = 2.0**47  # from it on, such a distance would skip integers, and bounds stay as they are

_COMBINING = frozenset({"$ref", "anyOf", "allOf"})
# Keywords that contain schemas, grouped by their value: an object of schemas, a list of schemas, or one schema.
_OBJECTS = ("properties", "patternProperties")
_LISTS = ("anyOf", "allOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "additionalItems")

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
    """Return `schema` and the definitions that it uses, with bounded numbers."""
    needed = {name: definitions[name] for name in sorted(_reached([schema], definitions))}
    intersections = [node for one in (schema, *needed.values()) for node in _intersections(one)]
    intersected = _reached(intersections, definitions)
    root = _bounded(schema, intersected=False)
    defs: dict[str, Schema] = {name: _bounded(one, intersected=name in intersected) for name, one in needed.items()}
    defs[_ANY] = _ANY_DEFINITION
    if _ANY not in _reached([root, *(defs[name] for name in needed)], defs):
        del defs[_ANY]
    return {**root, "$defs": defs} if defs else root


def _bounded(schema: Schema, *, intersected: bool) -> Node:
    """Return `schema` with bounded numbers.

    intersected: whether another schema applies to the same value. If not, unrestricted schemas become "any".
    """
    if schema is False:
        return {"allOf": [False]}
    if schema is True or not schema:
        return {} if intersected else _ANY_VALUE
    intersected = intersected or _intersects(schema)
    node = _clamped(schema)
    if not intersected:
        _restrict_open_places(node)
    for keyword, value in node.items():
        if keyword in _OBJECTS:
            node[keyword] = {name: _inner(one, intersected) for name, one in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            node[keyword] = [_inner(one, intersected) for one in value]
        elif keyword in _SINGLE:
            node[keyword] = _inner(value, intersected)
    if "number" in node.get("type", ()) and not node.keys() & {"enum", "const"}:
        if not node.keys() & set(_LOWER):
            node["minimum"] = -LARGEST_NUMBER
        if not node.keys() & set(_UPPER):
            node["maximum"] = LARGEST_NUMBER
    return node


def _restrict_open_places(node: Node) -> None:
    """Add `type`, `additionalProperties` and `items` if they are missing.

    Numbers in such places are then bounded, too. Nodes with `enum`, `const`, `$ref`, `anyOf` or `allOf` stay unchanged.
    """
    if node.keys() & {*_COMBINING, "enum", "const"}:
        return
    types = node.setdefault("type", list(TYPES))
    if "object" in types:
        node.setdefault("additionalProperties", True)
    if "array" in types:
        node.setdefault("additionalItems" if isinstance(node.get("items"), list) else "items", True)


def _inner(schema: Schema, intersected: bool) -> Schema:
    return schema if schema is False or (intersected and schema is True) else _bounded(schema, intersected=intersected)


def _clamped(node: Node) -> Node:
    """Return a copy of `node` whose own bounds are in the supported range.

    An exclusive integer bound that excludes numbers nearer to zero becomes an inclusive bound just beyond it.
    """
    clamped = dict(node)
    for (inclusive, exclusive), tightest, inwards in ((_LOWER, max, 1), (_UPPER, min, -1)):
        bound, excluded = clamped.pop(inclusive, None), clamped.pop(exclusive, None)
        if isinstance(excluded, bool):  # draft 4
            bound, excluded = (None, bound) if excluded else (bound, None)
        if excluded is not None and 0 <= inwards * excluded < _FAR and excluded == int(excluded):
            beyond = excluded + inwards * max(abs(excluded) * _NEXT, _NEXT_TO_ZERO)
            bound, excluded = beyond if bound is None else tightest(bound, beyond), None
        for keyword, value in ((inclusive, bound), (exclusive, excluded)):
            if value is not None:
                clamped[keyword] = tightest(value, -inwards * LARGEST_NUMBER)
    return clamped


def _intersects(node: Node) -> bool:
    """Return whether llguidance must intersect parts of `node`.

    The parts are `$ref`, `anyOf`, each schema in `allOf`, and all other keywords as one part. In addition, llguidance
    intersects `properties` with `patternProperties`.
    """
    own = bool(node.keys() - _COMBINING)
    parts = own + ("$ref" in node) + ("anyOf" in node) + len(node.get("allOf", ()))
    return parts > 1 or bool(node.get("properties") and node.get("patternProperties"))


def _intersections(schema: Schema) -> list[Node]:
    """Return the outermost nodes in `schema` whose parts llguidance intersects."""
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
    """Return the names of all definitions that `schemas` use, directly or indirectly."""
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
    inner: list[Schema] = []
    for keyword, value in node.items():
        if keyword in _OBJECTS:
            inner += value.values()
        elif keyword in _LISTS and isinstance(value, list):
            inner += value
        elif keyword in _SINGLE:
            inner.append(value)
    return inner
