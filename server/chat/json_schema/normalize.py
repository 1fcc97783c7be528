"""A client's JSON schema in the form that can be enforced: references gathered, annotations dropped, `oneOf` resolved.

What is left holds only what llguidance's `%json` enforces in full. Knows no calls, no grammars and no tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

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
from server.chat.json_schema.negation import Rewriter, exclusive_requirements
from server.chat.json_schema.number_bounds import Node, Schema, bounded_document
from server.chat.json_schema.references import References
from server.errors import InvalidRequestError

MAX_NODES = 20_000
MAX_COST = 20_000
MAX_MULTIPLE = 1_000_000
MAX_DEPTH = 100  # through references too: llguidance recurses, and a stack's end is the process's end

_OLD_DRAFT = re.compile(r"http://json-schema\.org/draft-0[3467]/")


@dataclass(frozen=True, slots=True)
class EnforceableSchema:
    """`root` with its `definitions`; references are all of the form `#/$defs/name`."""

    root: Schema
    definitions: Mapping[str, Schema]
    loosened: tuple[str, ...] = ()

    def resolve(self, schema: Schema) -> Schema:
        """`schema`, or what it refers to if it is a bare reference."""
        for _ in range(len(self.definitions) + 1):
            if not isinstance(schema, dict) or schema.keys() != {"$ref"}:
                return schema
            schema = self.definitions[_name(schema["$ref"])]
        return False  # a circle of bare references

    def document(self, schema: Schema) -> Node:
        """`schema` on its own, with the definitions that it reaches and an end to its numbers."""
        return bounded_document(schema, self.definitions)

    def admits(self, schema: Schema, constant: bool | None) -> bool:
        """Whether `schema` is satisfied by true, false or null."""
        return self._admits(schema, constant, {})

    def _admits(self, schema: Schema, constant: bool | None, known: dict[str, bool]) -> bool:
        if isinstance(schema, bool):
            return schema
        kind = "null" if constant is None else "boolean"
        types = schema.get("type", kind)
        if kind not in ([types] if isinstance(types, str) else types):
            return False
        if "enum" in schema and not any(value is constant for value in schema["enum"]):
            return False
        if "const" in schema and schema["const"] is not constant:
            return False
        if "$ref" in schema:
            name = _name(schema["$ref"])
            if name not in known:
                known[name] = False  # while it is looked into
                known[name] = self._admits(self.definitions[name], constant, known)
            if not known[name]:
                return False
        return all(self._admits(one, constant, known) for one in schema.get("allOf", ())) and (
            "anyOf" not in schema or any(self._admits(one, constant, known) for one in schema["anyOf"])
        )


def enforceable(schema: object, *, strict: bool) -> EnforceableSchema:
    """`schema` in the form that can be enforced.

    If `strict`, raises UnenforceableError for what cannot be; otherwise that keyword is left out and told of in
    `loosened`. Raises InvalidRequestError for what is no schema, or is too large.
    """
    return _Preparation(schema, strict).result()


class _Preparation:
    def __init__(self, schema: object, strict: bool) -> None:
        self._document = schema
        self._strict = strict
        self._loosened: list[str] = []
        self._definitions: dict[str, Schema] = {}
        self._names: dict[int, str] = {}
        self._nodes = 0
        self._cost = 0
        self._multiple = 1
        declared = schema.get("$schema", "") if isinstance(schema, dict) else ""
        self._siblings_of_ref_count = not (isinstance(declared, str) and _OLD_DRAFT.match(declared))
        self._references = References(schema)
        self._rewriter = Rewriter(self._references, self._count_node)

    def result(self) -> EnforceableSchema:
        root = self._prepare(self._document, (), 0)
        return EnforceableSchema(root, self._definitions, tuple(self._loosened))

    def _prepare(self, node: object, path: tuple[str, ...], depth: int) -> Schema:
        self._count_node(depth)
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise UnenforceableError(".".join(path), "a schema is an object or a boolean")
        if "$ref" in node and not self._siblings_of_ref_count:
            node = {"$ref": node["$ref"]}
        prepared: Node = {}
        conjuncts: list[Schema] = []
        for keyword, value in node.items():
            try:
                self._keyword(prepared, conjuncts, node, keyword, value, (*path, keyword), depth + 1)
            except UnenforceableError as error:
                if self._strict:
                    raise
                self._loosened.append(str(error))
        if conjuncts:
            prepared["allOf"] = [*prepared.get("allOf", ()), *conjuncts]
        return prepared

    def _keyword(
        self,
        prepared: Node,
        conjuncts: list[Schema],
        node: Node,
        keyword: str,
        value: Any,
        path: tuple[str, ...],
        depth: int,
    ) -> None:
        where = ".".join(path)
        match keyword:
            case _ if keyword in READERS:
                value = READERS[keyword](value, where)
                self._count_cost(node, keyword, value, where)
                prepared[keyword] = value
            case "$ref":
                prepared["$ref"] = self._reference(value, where, depth)
            case "properties" | "patternProperties":
                if keyword == "patternProperties" or node.keys() & {"minProperties", "maxProperties"}:
                    self._spend(len(mapping_of(value, where)) ** 2)
                prepared[keyword] = self._prepare_values(mapping_of(value, where), path, depth)
            case "allOf" | "anyOf" | "prefixItems":
                prepared[keyword] = self._prepare_all(list_of(value, where), path, depth)
            case "oneOf" if "anyOf" in node:
                conjuncts.append({"anyOf": self._one_of(list_of(value, where), path, depth)})
            case "oneOf":
                prepared["anyOf"] = self._one_of(list_of(value, where), path, depth)
            case "items" if isinstance(value, list):
                prepared[keyword] = self._prepare_all(value, path, depth)
            case "items" | "additionalProperties" | "additionalItems":
                prepared[keyword] = self._prepare(value, path, depth)
            case "format" if isinstance(value, str) and value in FORMATS and "pattern" not in node:
                prepared["format"] = value
            case "uniqueItems" if value and node.get("maxItems") not in (0, 1):
                raise UnenforceableError(where, "that items are unique cannot be enforced")
            case "not" | "if" | "dependencies" | "dependentRequired" | "dependentSchemas":
                conjuncts += [self._prepare(one, path, depth) for one in self._rewriter.conjuncts(keyword, node, where)]
            case _ if keyword in UNSUPPORTED:
                raise UnenforceableError(where, f"the keyword {keyword!r} cannot be enforced")

    def _count_cost(self, node: Node, keyword: str, value: Any, where: str) -> None:
        if keyword == "pattern":
            self._spend(100 if node.keys() & {"minLength", "maxLength"} else 20)
        elif keyword == "multipleOf":
            self._multiple = math.lcm(self._multiple, max(1, digits_of(value)))
            if self._multiple > MAX_MULTIPLE:
                raise UnenforceableError(where, f"multiples past {MAX_MULTIPLE:,} cannot be enforced")

    def _count_node(self, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise too_large(f"more than {MAX_NODES:,} parts or {MAX_DEPTH} levels")

    def _spend(self, cost: int) -> None:
        """Counts what llguidance takes longest for, in some ten microseconds."""
        self._cost += cost
        if self._cost > MAX_COST:
            raise too_large("patterns, or properties whose number is bounded, are too many")

    def _refuse(self, where: str, reason: str) -> None:
        """What is done with less than it asks for: an error if strict, else told of."""
        if self._strict:
            raise UnenforceableError(where, reason)
        self._loosened.append(f"{where}: {reason}")

    def _prepare_values(self, schemas: Mapping[str, Any], path: tuple[str, ...], depth: int) -> dict[str, Schema]:
        return {name: self._prepare(schema, (*path, name), depth) for name, schema in schemas.items()}

    def _prepare_all(self, schemas: Sequence[Any], path: tuple[str, ...], depth: int) -> list[Schema]:
        return [self._prepare(schema, (*path, str(i)), depth) for i, schema in enumerate(schemas)]

    def _reference(self, reference: object, where: str, depth: int) -> str:
        target = self._references.lookup(reference, where)
        name = self._names.get(id(target))
        if name is None:
            name = self._names[id(target)] = f"d{len(self._names)}"
            self._definitions[name] = True
            self._definitions[name] = self._prepare(target, (where,), depth)
        return f"#/$defs/{name}"

    def _one_of(self, branches: Sequence[Any], path: tuple[str, ...], depth: int) -> list[Schema]:
        where = ".".join(path)
        prepared = self._prepare_all(branches, path, depth)
        if (exclusive := exclusive_requirements(branches)) is not None:
            return self._prepare_all(exclusive, path, depth)
        prover = DisjointnessProver(lambda reference: self._references.lookup(reference, where))
        for i, j in combinations(range(len(branches)), 2):
            if not prover.disjoint(branches[i], branches[j]):
                self._refuse(where, f"the branches {i} and {j} of 'oneOf' may both hold (a constant tells them apart)")
                break
        return prepared


def too_large(what: str, param: str | None = None) -> InvalidRequestError:
    """The error for a schema whose enforcement would cost too much."""
    return InvalidRequestError(f"The schema is too large to be enforced: {what}.", param, "schema_too_large")


def _name(reference: str) -> str:
    return reference.removeprefix("#/$defs/")
