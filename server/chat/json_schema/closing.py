"""Decides which properties objects may have if `additionalProperties` is missing.

An object may then have only the properties that its schema lists or requires, unless a subschema permits others.
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
    """The property names in the schemas that apply to one object.

    For example, a schema and the parts of its `allOf` apply to the same object.

    all: all properties that these schemas list or require, in order of appearance.
    listed: for each property, how many of these schemas list it in `properties`.
    closed: whether any schema forbids additional properties.
    is_open: whether any schema permits additional properties.
    is_whole: whether all schemas were visited. False if there are too many, or if they are nested too deeply.
    """

    all: dict[str, None] = field(default_factory=dict)
    listed: Counter[str] = field(default_factory=Counter)
    closed: bool = False
    is_whole: bool = True
    is_open: bool = False

    @property
    def closable(self) -> bool:
        """Whether to forbid additional properties.

        True if all schemas were visited, and they list properties but neither permit nor forbid additional ones.
        """
        return bool(self.listed) and self.is_whole and not self.is_open and not self.closed


class Closer:
    """A collector of the property names in all schemas that apply to one value.

    It visits a limited number of schemas over all calls of `names`. Beyond this limit, `Names.is_whole` is False.
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self._steps = 0

    def names(self, schema: Any) -> Names:
        """Return the property names in `schema` and in the schemas that it combines.

        Example: the schemas in its `allOf`.
        """
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
    """Return a schema for objects that may have only the properties `names`."""
    return {"properties": dict.fromkeys(names, True), "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Place:
    """The other schemas that apply to the same value as a given schema.

    alone: True if there are no other schemas. False if there are, or if unknown.
    listed: for each property, how many of the schemas that apply to the value list it in `properties`. None if unknown.
    """

    alone: bool = False
    listed: Mapping[str, int] | None = None

    def of_property(self, name: str) -> Place:
        """Return the place of the schema for the property `name`.

        The place is alone if no other schema lists `name`.
        """
        return ALONE if self.listed is not None and self.listed.get(name) == 1 else Place()

    def inside(self, node: Node) -> Place:
        """Return the place of the schemas in `items` or `additionalProperties` of `node`."""
        return ALONE if self.listed is not None and not node.keys() & APPLICATORS else Place()


ALONE = Place(alone=True)
APPLICATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependencies", "dependentSchemas"})


def is_only_alternatives(node: Node) -> bool:
    """Return whether `node` consists of one `$ref`, `anyOf`, `oneOf` or `allOf`.

    `allOf` must contain exactly one schema. `type` and annotations may stand beside the keyword. Example:
    `{"$ref": "#/$defs/a", "title": "A"}`.
    """
    own = node.keys() & (READERS.keys() | APPLICATORS | {"properties", "patternProperties", "additionalProperties"})
    own -= {"type"}
    single = own == {"allOf"} and isinstance(node["allOf"], list) and len(node["allOf"]) == 1
    return single or own in ({"$ref"}, {"anyOf"}, {"oneOf"})
