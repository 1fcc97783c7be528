"""Decides which properties an object may have if its schema does not say.

If the schema of an object does not mention `additionalProperties`, the object is closed: it may have only the
properties that its schema lists or requires. These include the properties in `allOf`, in references, in the branches of
`anyOf` and `oneOf`, and in conditions. If any of these subschemas permits additional properties, the object is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from server.chat.json_schema.keywords import READERS, UnenforceableError
from server.chat.json_schema.number_bounds import Node
from server.chat.json_schema.references import References

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("if", "then", "else")
_DEPENDENCIES = ("dependencies", "dependentSchemas", "dependentRequired")
_MAX_DEPTH = 30
_MAX_STEPS = 100_000


@dataclass
class Names:
    """The property names in a schema and in its applicable subschemas.

    An applicable subschema, such as a part of `allOf`, applies to the same value as the schema. In the following lines,
    "the schemas" are the schema and its applicable subschemas.

    all: the names of all properties that the schemas list or require, in order.
    listed: for each property, the number of schemas that list the property in `properties`.
    closed: whether at least one of the schemas forbids additional properties.
    is_open: whether at least one of the schemas permits additional properties. Another schema may still forbid them.
    is_whole: whether all of the schemas were visited. If not, names may be missing.
    """

    all: dict[str, None] = field(default_factory=dict)
    listed: Counter[str] = field(default_factory=Counter)
    closed: bool = False
    is_whole: bool = True
    is_open: bool = False

    @property
    def closable(self) -> bool:
        """Whether to close the objects, because the schemas leave the question open.

        True if the schemas list properties, if none of them permits or forbids additional properties, and if all of
        them were visited.
        """
        return bool(self.listed) and self.is_whole and not self.is_open and not self.closed


class Closer:
    """A collector of the property names in schemas of one document."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._steps = 0

    def names(self, schema: Any) -> Names:
        """Return the property names in `schema` and in its applicable subschemas."""
        names = Names()
        self._collect(schema, names, frozenset(), 0)
        return names

    def _collect(self, schema: Any, names: Names, seen: frozenset[int], depth: int) -> None:
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            names.is_whole = False
        if not isinstance(schema, dict) or not names.is_whole or id(schema) in seen:
            return
        _collect_own(schema, names)
        for one in self._applicable(schema):
            self._collect(one, names, seen | {id(schema)}, depth + 1)

    def _applicable(self, schema: Node) -> Iterator[Any]:
        """Yield the schemas that apply to the same value as `schema`."""
        if "$ref" in schema:
            with suppress(UnenforceableError):  # the normalization of the reference reports the error
                yield self._references.lookup(schema["$ref"], "")
        for keyword in _LISTS:
            if isinstance(schema.get(keyword), list):
                yield from schema[keyword]
        for keyword in _SINGLE:
            yield schema.get(keyword)
        for keyword in _DEPENDENCIES:
            if isinstance(schema.get(keyword), dict):
                for name, value in schema[keyword].items():
                    yield {"required": [name]}
                    yield {"required": value} if isinstance(value, list) else value


def _collect_own(schema: Node, names: Names) -> None:
    if isinstance(properties := schema.get("properties"), dict):
        names.listed.update(properties.keys())
        names.all.update(dict.fromkeys(properties))
    if isinstance(required := schema.get("required"), list):
        names.all.update((name, None) for name in required if isinstance(name, str))
    additional = schema.get("additionalProperties")
    if additional is False:
        names.closed = True
    elif additional is not None or "patternProperties" in schema or _needs_others(schema):
        names.is_open = True


def _needs_others(schema: Node) -> bool:
    """Return whether `minProperties` requires more properties than `schema` lists."""
    least, properties = schema.get("minProperties"), schema.get("properties")
    return isinstance(least, int | float) and least > (len(properties) if isinstance(properties, dict) else 0)


def closed(names: Iterable[str]) -> Node:
    """Return a schema of objects without properties other than `names`."""
    return {"properties": dict.fromkeys(names, True), "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Place:
    """Whether a schema is the only one that applies to a value.

    For example, all parts of an `allOf` apply to the same value, so none of them is alone.

    alone: whether no other schema applies to the value.
    listed: for each property of the value, how many of the schemas that apply to the value list the property in
        `properties`. None if unknown.
    """

    alone: bool = False
    listed: Mapping[str, int] | None = None

    def of_property(self, name: str) -> Place:
        """Return the place of the schema of the property `name`.

        This schema is alone if `listed` is 1 for `name`. In `{"properties": {"a": S}, "allOf": [{"properties": {"a":
        T}}]}`, for example, `listed` is 2 for `a`, so neither S nor T is alone.
        """
        return ALONE if self.listed is not None and self.listed.get(name) == 1 else Place()

    def inside(self, node: Node) -> Place:
        """Return the place of the schemas in `node`'s `items` or `additionalProperties`.

        They are alone if no other schema applies to the same value as `node`.
        """
        return ALONE if self.listed is not None and not node.keys() & APPLICATORS else Place()


ALONE = Place(alone=True)
APPLICATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependencies", "dependentSchemas"})


def is_only_alternatives(node: Node) -> bool:
    """Return whether `node` only refers to other schemas, through a single keyword.

    This keyword must be `$ref`, `anyOf`, `oneOf`, or an `allOf` of one schema. Beside it, `node` may have only `type`,
    annotations and the schemas of array items.
    """
    own = node.keys() & (READERS.keys() | APPLICATORS | {"properties", "patternProperties", "additionalProperties"})
    own -= {"type"}
    single = own == {"allOf"} and isinstance(node["allOf"], list) and len(node["allOf"]) == 1
    return single or own in ({"$ref"}, {"anyOf"}, {"oneOf"})
