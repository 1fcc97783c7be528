"""Normalizes JSON schemas so that llguidance enforces all remaining keywords.

Moves referenced schemas into one set of definitions. Drops annotations and unknown keywords. Rewrites keywords that
llguidance does not support. The caller chooses whether a keyword that cannot be enforced is an error or is only
reported. This module depends on neither tool calls nor grammars.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from server.chat.json_schema.closing import ALONE, Closer, Place, closed, is_only_alternatives
from server.chat.json_schema.disjointness import DisjointnessProver
from server.chat.json_schema.keywords import (
    FORMATS,
    READERS,
    UNSUPPORTED,
    UnenforceableError,
    digits_of,
    list_of,
    mapping_of,
)
from server.chat.json_schema.negation import ANNOTATIONS, Rewriter
from server.chat.json_schema.normalized_schema import NormalizedSchema
from server.chat.json_schema.number_bounds import Node, Schema
from server.chat.json_schema.references import References
from server.chat.json_schema.unenforced import Unenforced
from server.errors import InvalidRequestError

MAX_NODES = 20_000  # subschemas; a subschema counts again each time that a rewriting visits it
MAX_COST = 20_000  # of keywords that llguidance compiles slowly, in units of about ten microseconds
MAX_MULTIPLE = 1_000_000  # least common multiple of all values of `multipleOf`
MAX_DEPTH = 100  # levels, including references; llguidance recurses, and a stack overflow would end the process

_OLD_DRAFT = re.compile(r"http://json-schema\.org/draft-0[3467]/")


def normalize(schema: object, *, strict: bool) -> NormalizedSchema:
    """Normalize a client's schema.

    strict: whether a keyword that cannot be enforced raises UnenforceableError. If not, the result omits the keyword,
    and the field `unenforced` of the result contains a message about it.

    Raises InvalidRequestError if the schema is too large, and UnenforceableError if `schema` is not a JSON schema.
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
        dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
        # In drafts up to 7, keywords beside `$ref` are ignored.
        self._ref_allows_siblings = not (isinstance(dialect, str) and _OLD_DRAFT.match(dialect))
        self._references = References(schema)
        self._closer = Closer(self._references)
        self._rewriter = Rewriter(self._references, self._count_node)

    def result(self) -> NormalizedSchema:
        root = self._normalize(self._document, (), 0, ALONE)
        return NormalizedSchema(root, self._definitions, self._unenforced)

    def _normalize(self, node: object, path: tuple[str, ...], depth: int, place: Place) -> Schema:
        """Return the normalized form of `node`, the schema at `path`.

        Forbids additional properties if `node` does not mention them and no other schema applies (`place.alone`).
        """
        self._count_node(depth)
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise UnenforceableError(".".join(path), "a schema must be an object or a boolean")
        if "$ref" in node and not self._ref_allows_siblings:
            node = {"$ref": node["$ref"]}
        names, parts = None, place
        if place.alone and not is_only_alternatives(node):
            names = self._closer.names(node)
            parts = Place(listed=names.listed if names.is_whole else None)
        normalized: Node = {}
        conjuncts: list[Schema] = []
        for keyword, value in node.items():
            try:
                normalized |= self._keyword(node, keyword, value, (*path, keyword), depth + 1, parts)
                conjuncts += self._conjuncts(node, keyword, value, (*path, keyword), depth + 1, parts)
            except UnenforceableError as error:
                if self._strict:
                    raise
                self._unenforced.add(str(error))
        if names is not None and names.closable:
            if "properties" in normalized:
                normalized["properties"] = {
                    **normalized["properties"],
                    **{name: True for name in names.all if name not in normalized["properties"]},
                }
                normalized["additionalProperties"] = False
            else:
                conjuncts.append(closed(names.all))
        if conjuncts:
            normalized["allOf"] = [*normalized.get("allOf", ()), *conjuncts]
        return normalized

    def _keyword(self, node: Node, keyword: str, value: Any, path: tuple[str, ...], depth: int, parts: Place) -> Node:
        """Return the keywords that replace `keyword` of `node`.

        Returns an empty object for annotations, for unknown keywords and for keywords that become schemas in `allOf`.
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
            case "uniqueItems" if value and node.get("maxItems") not in (0, 1):
                raise UnenforceableError(where, "unique items cannot be enforced")
            case "propertyNames" if _admits_all_strings(value):
                return {}
            case _ if keyword in UNSUPPORTED:
                raise UnenforceableError(where, f"the keyword {keyword!r} cannot be enforced")
        return {}

    def _conjuncts(
        self, node: Node, keyword: str, value: Any, path: tuple[str, ...], depth: int, parts: Place
    ) -> Iterable[Schema]:
        """Return the schemas to add to `allOf` of `node` in place of `keyword`.

        Returns [] if there is nothing to add. Raises UnenforceableError if `keyword` cannot be rewritten.
        """
        where = ".".join(path)
        match keyword:
            case "oneOf" if "anyOf" in node:
                return [{"anyOf": self._one_of(node, path, depth, parts)}]
            case "not" | "if" | "dependencies" | "dependentRequired" | "dependentSchemas":
                rewritten = self._rewriter.conjuncts(keyword, node, where)
                return [self._normalize(schema, path, depth, Place()) for schema in rewritten]
        return []

    def _count_cost(self, node: Node, keyword: str, value: Any, where: str) -> None:
        """Count a `pattern` or `multipleOf` towards the limits; ignore other keywords.

        Raises InvalidRequestError if the total cost exceeds MAX_COST, and UnenforceableError if the least common
        multiple of all values of `multipleOf` exceeds MAX_MULTIPLE.
        """
        if keyword == "pattern":
            self._spend(100 if node.keys() & {"minLength", "maxLength"} else 20)
        elif keyword == "multipleOf":
            self._multiple = math.lcm(self._multiple, max(1, digits_of(value)))
            if self._multiple > MAX_MULTIPLE:
                raise UnenforceableError(where, f"the least common multiple of all multipleOf exceeds {MAX_MULTIPLE:,}")

    def _count_node(self, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise too_large(f"it has more than {MAX_NODES:,} subschemas or more than {MAX_DEPTH} levels")

    def _spend(self, cost: int) -> None:
        """Add `cost` to the total cost; raise InvalidRequestError if it exceeds MAX_COST."""
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
        """Return `#/$defs/NAME` for the schema to which a client's `reference` points.

        Normalizes the schema and adds it to the definitions when it is first referenced. Chooses NAME before
        normalizing the schema, so that a schema may refer to itself.
        """
        target = self._references.lookup(reference, where)
        key = (id(target), place.alone)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"d{len(self._names)}"
            self._definitions[name] = True
            self._definitions[name] = self._normalize(target, (where,), depth, ALONE if place.alone else Place())
        return f"#/$defs/{name}"

    def _one_of(self, node: Node, path: tuple[str, ...], depth: int, place: Place) -> list[Schema]:
        """Return the branches of an `anyOf` that is equivalent to `oneOf` of `node`.

        The two keywords are equivalent if no value satisfies two branches. If two branches are not proven disjoint,
        conditions are added to both: either each branch excludes the values of the other, or both require a property
        that distinguishes them. If no such conditions exist, raises UnenforceableError in strict mode; otherwise,
        reports that the keyword is not fully enforced and adds no conditions.
        """
        where = ".".join(path)
        branches = list_of(node["oneOf"], where)
        if (exclusive := self._rewriter.exclusive_requirements(branches)) is not None:
            return self._normalize_all(exclusive, path, depth, Place())
        closings = self._closings(node, branches, place)
        closed_branches = [_both(branch, closing) for branch, closing in zip(branches, closings, strict=True)]
        prover = DisjointnessProver(lambda reference: self._references.lookup(reference, where))
        narrowed = list(branches)
        for i, j in combinations(range(len(branches)), 2):
            if prover.disjoint(closed_branches[i], branches[j]) and prover.disjoint(closed_branches[j], branches[i]):
                continue
            rest = self._without_overlap(prover, branches[i], branches[j], where)
            if rest is None:
                reason = f"branches {i} and {j} may both match; give both a required property with different constants"
                if self._strict:
                    raise UnenforceableError(where, reason)
                self._unenforced.add(f"{where}: {reason}")
                narrowed = list(branches)
                break
            narrowed[i], narrowed[j] = _both(narrowed[i], rest[0]), _both(narrowed[j], rest[1])
        if not place.alone:  # `_normalize` closes branches that stand alone
            narrowed = [_both(branch, closing) for branch, closing in zip(narrowed, closings, strict=True)]
        return self._normalize_all(narrowed, path, depth, place)

    def _without_overlap(
        self, prover: DisjointnessProver, one: Any, other: Any, where: str
    ) -> tuple[Schema, Schema] | None:
        """Return the schemas to add to two branches to make the branches disjoint.

        The first schema is for `one`, the second for `other`. Returns None if there are no such schemas.
        """
        try:
            return self._rewriter.negation(other, where), self._rewriter.negation(one, where)
        except UnenforceableError:
            separator = prover.separator(one, other)
            return None if separator is None else (separator, separator)

    def _closings(self, node: Node, branches: Sequence[Any], place: Place) -> list[Node | None]:
        """Return, for each branch of `oneOf`, a schema that forbids additional properties.

        The schema permits the properties that the branch names and the properties that `node` names outside `oneOf`.
        The result is None for a branch whose objects may have additional properties.
        """
        context = self._closer.names({keyword: value for keyword, value in node.items() if keyword != "oneOf"})
        if not place.alone and (place.listed is None or context.is_open or context.closed or not context.is_whole):
            return [None] * len(branches)
        closings: list[Node | None] = []
        for branch in branches:
            names = self._closer.names(branch)
            closings.append(closed({**context.all, **names.all}) if names.closable else None)
        return closings


def _both(schema: Any, other: Any) -> Any:
    """Return the `allOf` of both schemas, or `schema` alone if `other` is None."""
    return schema if other is None else {"allOf": [schema, other]}


def _admits_all_strings(schema: object) -> bool:
    """Return whether `schema` is certain to admit every string.

    As the value of `propertyNames`, such a schema restricts nothing, because all property names are strings.
    """
    if not isinstance(schema, dict):
        return schema is True
    types = schema.get("type", "string")
    return schema.keys() <= {"type", *ANNOTATIONS} and "string" in ([types] if isinstance(types, str) else types)


def too_large(reason: str, param: str | None = None) -> InvalidRequestError:
    """Return the error for a schema or grammar that is too costly to enforce."""
    return InvalidRequestError(f"The schema is too large to enforce: {reason}.", param, "schema_too_large")
