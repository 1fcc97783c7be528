"""Normalizes JSON schemas so that llguidance enforces all remaining keywords.

Collects referenced schemas in `$defs`, drops annotations and unknown keywords, and rewrites keywords that llguidance
lacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server.chat.json_schema.closing import ALONE, Closer, Place, closed, is_only_alternatives
from server.chat.json_schema.disjointness import DisjointnessProver
from server.chat.json_schema.keywords import (
    FORMAT_PATTERNS,
    FORMATS,
    READERS,
    UNSUPPORTED,
    UnenforceableError,
    digits_of,
    list_of,
    mapping_of,
)
from server.chat.json_schema.normalized_schema import NormalizedSchema
from server.chat.json_schema.number_bounds import Node, Schema
from server.chat.json_schema.patterns.algebra import PatternAlgebra
from server.chat.json_schema.references import References
from server.chat.json_schema.rewriting.counted_properties import COUNTS, counted
from server.chat.json_schema.rewriting.negation import Negator
from server.chat.json_schema.rewriting.one_of import OneOf, OverlapError
from server.chat.json_schema.rewriting.rewriter import Rewriter
from server.chat.json_schema.unenforced import Unenforced
from server.errors import InvalidRequestError

MAX_NODES = 20_000  # subschemas; a subschema counts again each time that a rewriting visits it
MAX_COST = 20_000  # of keywords that llguidance compiles slowly, in units of about ten microseconds
MAX_MULTIPLE = 1_000_000  # least common multiple of all values of `multipleOf`
MAX_DEPTH = 100  # levels, including references; llguidance recurses, and a stack overflow would end the process


def normalize(schema: object, *, strict: bool) -> NormalizedSchema:
    """Normalize a client's schema.

    strict: whether an unenforceable keyword is an error, instead of a message in the result.

    Raises InvalidRequestError if the schema is too large.
    Raises UnenforceableError if `schema` is neither an object nor a boolean.
    Raises UnenforceableError if `strict` is set and a keyword cannot be enforced.
    """
    return _Normalizer(schema, strict).result()


class _Normalizer:
    """A normalizer for one document, which rejects schemas that are too costly."""

    def __init__(self, schema: object, strict: bool) -> None:
        self._document = schema
        self._strict = strict
        self._unenforced = Unenforced()
        self._definitions: dict[str, Schema] = {}
        # The name of each definition. The key consists of the `id()` of the client's schema and Place.alone.
        self._names: dict[tuple[int, bool], str] = {}
        self._nodes = 0
        self._cost = 0
        self._multiple = 1
        self._references = References(schema)
        self._closer = Closer(self._references)
        patterns = PatternAlgebra()
        prover = DisjointnessProver(self._references, patterns)
        negator = Negator(self._references, prover, patterns)
        self._rewriter = Rewriter(self._references, negator, patterns)
        self._disjoint = OneOf(self._closer, prover, negator)

    def result(self) -> NormalizedSchema:
        root = self._normalize(self._document, (), 0, ALONE)
        return NormalizedSchema(root, self._definitions, self._unenforced)

    def _normalize(self, node: object, path: tuple[str, ...], depth: int, place: Place) -> Schema:
        """Return the normalized form of `node`, the schema at `path`.

        If `place` is alone and `node` does not mention additional properties, forbids them.
        """
        self._count_node(depth)
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise UnenforceableError(".".join(path), "a schema must be an object or a boolean")
        node = self._rewriter.without_universal_patterns(self._references.effective(node))
        names, parts = None, place
        if place.alone and not is_only_alternatives(node):
            names = self._closer.names(node)
            parts = Place(listed=names.listed if names.is_whole else None)
        normalized: Node = {}
        conjuncts: list[Schema] = []
        counts = counted(node, names)
        for keyword, value in node.items():
            try:
                if keyword in COUNTS and counts is not None:
                    conjuncts += [self._normalize(one, path, depth + 1, Place()) for one in counts[keyword]]
                    continue
                normalized |= self._keyword(node, keyword, value, (*path, keyword), depth + 1, parts)
                conjuncts += self._conjuncts(node, keyword, value, (*path, keyword), depth + 1, parts)
            except UnenforceableError as error:
                if self._strict:
                    raise
                self._unenforced.add(str(error))
        if names is not None and names.closable and "properties" in normalized:
            missing = {name: True for name in names.all if name not in normalized["properties"]}
            normalized |= {"properties": {**normalized["properties"], **missing}, "additionalProperties": False}
        elif names is not None and names.closable:
            conjuncts.append(closed(names.all))
        if conjuncts:
            normalized["allOf"] = [*normalized.get("allOf", ()), *conjuncts]
        return normalized

    def _keyword(self, node: Node, keyword: str, value: Any, path: tuple[str, ...], depth: int, parts: Place) -> Node:
        """Return the keywords that replace `keyword` of `node`.

        Returns {} for annotations, unknown keywords, and keywords that `_conjuncts` replaces.
        Raises UnenforceableError if the keyword cannot be enforced.
        """
        where = ".".join(path)
        match keyword:
            case _ if keyword in READERS:
                value = READERS[keyword](value, where)
                self._count_cost(node, keyword, value, where)
                return {keyword: value}
            case "$ref":
                return {"$ref": self._reference(value, where, depth, parts)}
            case "properties" | "patternProperties":
                if keyword == "patternProperties" or node.keys() & {"minProperties", "maxProperties"}:
                    self._spend(len(mapping_of(value, where)) ** 2)
                return {keyword: self._normalize_values(mapping_of(value, where), path, depth, parts)}
            case "allOf" | "anyOf":
                return {keyword: self._normalize_all(list_of(value, where), path, depth, parts)}
            case "oneOf" if "anyOf" not in node:
                return {"anyOf": self._one_of(node, path, depth, parts)}
            case "prefixItems" | "items" if isinstance(value, list):
                return {keyword: self._normalize_all(value, path, depth, parts.inside(node))}
            case "items" | "additionalProperties" | "additionalItems":
                return {keyword: self._normalize(value, path, depth, parts.inside(node))}
            case "format" if isinstance(value, str) and value in FORMATS and "pattern" not in node:
                return {"format": value}
            case "format" if isinstance(value, str) and value in FORMAT_PATTERNS and "pattern" not in node:
                self._spend(20)
                return {"pattern": FORMAT_PATTERNS[value]}
            case "uniqueItems" if value and node.get("maxItems") not in (0, 1):
                raise UnenforceableError(where, "unique items cannot be enforced")
            case _ if keyword in UNSUPPORTED:
                raise UnenforceableError(where, f"the keyword {keyword!r} cannot be enforced")
        return {}

    def _conjuncts(
        self, node: Node, keyword: str, value: Any, path: tuple[str, ...], depth: int, parts: Place
    ) -> Iterable[Schema]:
        """Return the schemas to add to `allOf` of `node` in place of `keyword`.

        Raises UnenforceableError if `keyword` cannot be rewritten.
        """
        where = ".".join(path)
        match keyword:
            case "oneOf" if "anyOf" in node:
                return [{"anyOf": self._one_of(node, path, depth, parts)}]
            case "not" | "if" | "propertyNames" | "dependencies" | "dependentRequired" | "dependentSchemas":
                rewritten = self._rewriter.conjuncts(keyword, node, where)
                return [self._normalize(schema, path, depth, Place()) for schema in rewritten]
        return []

    def _count_cost(self, node: Node, keyword: str, value: Any, where: str) -> None:
        """Count a `pattern` or `multipleOf` towards the limits.

        Raises InvalidRequestError if patterns cost too much, and UnenforceableError if the multiples are too large.
        """
        if keyword == "pattern":
            self._spend(100 if node.keys() & {"minLength", "maxLength"} else 20)
        elif keyword == "multipleOf":
            self._multiple = math.lcm(self._multiple, max(1, digits_of(value)))
            if self._multiple > MAX_MULTIPLE:
                raise UnenforceableError(
                    where, f"the least common multiple of multipleOf values exceeds {MAX_MULTIPLE:,}"
                )

    def _count_node(self, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise too_large(f"it has more than {MAX_NODES:,} subschemas or more than {MAX_DEPTH} levels")

    def _spend(self, cost: int) -> None:
        """Add `cost` to the total. Raises InvalidRequestError above MAX_COST."""
        self._cost += cost
        if self._cost > MAX_COST:
            raise too_large(
                "its patterns, patternProperties, minProperties and maxProperties would take too long to compile"
            )

    def _normalize_values(
        self, schemas: Mapping[str, Any], path: tuple[str, ...], depth: int, parts: Place
    ) -> dict[str, Schema]:
        return {
            name: self._normalize(schema, (*path, name), depth, parts.of_property(name))
            for name, schema in schemas.items()
        }

    def _normalize_all(self, schemas: Sequence[Any], path: tuple[str, ...], depth: int, place: Place) -> list[Schema]:
        return [self._normalize(schema, (*path, str(i)), depth, place) for i, schema in enumerate(schemas)]

    def _reference(self, reference: object, where: str, depth: int, place: Place) -> str:
        """Return `#/$defs/NAME` for the schema to which `reference` points.

        Adds the schema to the definitions when it is first referenced.
        """
        target = self._references.lookup(reference, where)
        key = (id(target), place.alone)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"d{len(self._names)}"
            self._definitions[name] = True  # so that the schema may refer to itself
            self._definitions[name] = self._normalize(target, (where,), depth, ALONE if place.alone else Place())
        return f"#/$defs/{name}"

    def _one_of(self, node: Node, path: tuple[str, ...], depth: int, place: Place) -> list[Schema]:
        """Return the branches of an `anyOf` that replaces the `oneOf` of `node`.

        If branches may overlap, raises UnenforceableError in strict mode. Otherwise records a message about them.
        """
        try:
            branches = self._disjoint.disjoint_branches(node, place, ".".join(path))
        except OverlapError as error:
            if self._strict:
                raise
            self._unenforced.add(str(error))
            branches = error.branches
        return self._normalize_all(branches, path, depth, place)


def too_large(reason: str, param: str | None = None) -> InvalidRequestError:
    """Return the error for a schema or grammar that is too costly to enforce."""
    return InvalidRequestError(f"The schema is too large to enforce: {reason}.", param, "schema_too_large")
