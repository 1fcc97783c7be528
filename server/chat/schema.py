"""A client's JSON schema in the form that can be enforced: references gathered, annotations dropped, `oneOf` resolved.

What is left holds only what llguidance's `%json` enforces in full. Knows no calls, no grammars and no tokens.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import unquote, urljoin

from server.chat.bounded import TYPES, Node, Schema, bounded_document
from server.chat.disjoint import DisjointnessProver
from server.errors import InvalidRequestError

MAX_NODES = 20_000
MAX_COST = 20_000
MAX_MULTIPLE = 1_000_000
MAX_DEPTH = 100  # through references too: llguidance recurses, and a stack's end is the process's end

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_UNSUPPORTED = frozenset(
    {"contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}
)
_OLD_DRAFT = re.compile(r"http://json-schema\.org/draft-0[3467]/")


class UnenforceableError(Exception):
    """A keyword that cannot be enforced: `where` is its path in the schema."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if where else reason)


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
        self._identified: dict[str, Any] | None = None

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
            case "$ref":
                prepared["$ref"] = self._reference(value, where, depth)
            case "type":
                prepared["type"] = _types(value, where)
            case "properties" | "patternProperties":
                if keyword == "patternProperties" or node.keys() & {"minProperties", "maxProperties"}:
                    self._spend(len(_mapping(value, where)) ** 2)
                prepared[keyword] = self._prepare_values(_mapping(value, where), path, depth)
            case "allOf" | "anyOf" | "prefixItems":
                prepared[keyword] = self._prepare_all(_list(value, where), path, depth)
            case "oneOf":
                branches = self._one_of(_list(value, where), path, depth)
                if "anyOf" in node:
                    conjuncts.append({"anyOf": branches})
                else:
                    prepared["anyOf"] = branches
            case "items" if isinstance(value, list):
                prepared[keyword] = self._prepare_all(value, path, depth)
            case "items" | "additionalProperties" | "additionalItems":
                prepared[keyword] = self._prepare(value, path, depth)
            case "enum":
                prepared["enum"] = _list(value, where)
            case "const":
                prepared["const"] = value
            case "required":
                prepared["required"] = _names_list(value, where)
            case "format":
                if isinstance(value, str) and value in FORMATS and "pattern" not in node:
                    prepared["format"] = value
            case "pattern":
                self._spend(100 if node.keys() & {"minLength", "maxLength"} else 20)
                prepared["pattern"] = _pattern(value, where)
            case "multipleOf":
                prepared["multipleOf"] = _bound(value, where)
                self._multiple = math.lcm(self._multiple, max(1, _digits(value)))
                if self._multiple > MAX_MULTIPLE:
                    raise UnenforceableError(where, f"multiples past {MAX_MULTIPLE:,} cannot be enforced")
            case _ if keyword in _COUNTS:
                prepared[keyword] = _count(value, where)
            case _ if keyword in _BOUNDS:
                prepared[keyword] = _bound(value, where)
            case "uniqueItems":
                if value and node.get("maxItems") not in (0, 1):
                    raise UnenforceableError(where, "that items are unique cannot be enforced")
            case "not":
                conjuncts.append(self._prepare(self._negation(value, where, 0), path, depth))
            case "dependencies" | "dependentRequired" | "dependentSchemas":
                conjuncts += [
                    self._prepare(_dependency(name, wanted), (*path, name), depth)
                    for name, wanted in _mapping(value, where).items()
                ]
            case "if":
                conjuncts += [self._prepare(one, path, depth) for one in self._implications(value, node, where)]
            case _ if keyword in _UNSUPPORTED:
                raise UnenforceableError(where, f"the keyword {keyword!r} cannot be enforced")

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

    # References

    def _reference(self, reference: object, where: str, depth: int) -> str:
        target = self.lookup(reference, where)
        name = self._names.get(id(target))
        if name is None:
            name = self._names[id(target)] = f"d{len(self._names)}"
            self._definitions[name] = True
            self._definitions[name] = self._prepare(target, (where,), depth)
        return f"#/$defs/{name}"

    def lookup(self, reference: object, where: str) -> Any:
        """What `reference` points to in the document. Raises UnenforceableError where that is nothing."""
        if not isinstance(reference, str):
            raise UnenforceableError(where, "a reference is a string")
        base, _, fragment = reference.partition("#")
        target: Any = self._document if not base else self._by_identifier(base)
        fragment = unquote(fragment)
        if fragment.startswith("/"):
            try:
                for part in fragment[1:].split("/"):
                    part = part.replace("~1", "/").replace("~0", "~")
                    target = target[int(part)] if isinstance(target, list) else target[part]
            except (LookupError, TypeError, ValueError):
                target = None
        elif fragment:
            target = self._by_identifier(reference)
        if not isinstance(target, dict | bool):
            raise UnenforceableError(where, f"the reference {reference!r} leads to nothing in the schema")
        return target

    def _by_identifier(self, identifier: str) -> Any:
        if self._identified is None:
            self._identified = {}
            root = ""
            for node in _nodes(self._document):
                own = node.get("$id", node.get("id"))
                if isinstance(own, str):
                    root = root or own
                    for name in (own, urljoin(root, own)):
                        self._identified.setdefault(name.removesuffix("#"), node)
                if isinstance(anchor := node.get("$anchor"), str):
                    self._identified.setdefault(f"#{anchor}", node)
        return self._identified.get(identifier)

    # Keywords that are rewritten

    def _one_of(self, branches: Sequence[Any], path: tuple[str, ...], depth: int) -> list[Schema]:
        where = ".".join(path)
        prepared = self._prepare_all(branches, path, depth)
        if (exclusive := _exclusive_requirements(branches)) is not None:
            return self._prepare_all(exclusive, path, depth)
        prover = DisjointnessProver(lambda reference: self.lookup(reference, where))
        for i, j in combinations(range(len(branches)), 2):
            if not prover.disjoint(branches[i], branches[j]):
                self._refuse(where, f"the branches {i} and {j} of 'oneOf' may both hold (a constant tells them apart)")
                break
        return prepared

    def _negation(self, schema: Any, where: str, depth: int) -> Schema:
        """A schema that holds exactly where `schema` does not; only a few keywords have one."""
        self._count_node(depth)
        if isinstance(schema, bool):
            return not schema
        alternatives: list[Any] = []
        known = 0
        if isinstance(schema, dict) and depth < 20:
            for keyword, value in schema.items():
                match keyword:
                    case "required":
                        value = _names_list(value, where)
                        alternatives += [{"type": "object", "properties": {name: False}} for name in value]
                    case "type":
                        types = _types(value, where)
                        if "integer" in types and "number" not in types:
                            break
                        alternatives.append({"type": [name for name in TYPES if name not in types]})
                    case "anyOf" if isinstance(value, list):
                        alternatives.append({"allOf": [self._negation(one, where, depth + 1) for one in value]})
                    case "allOf" if isinstance(value, list):
                        alternatives += [self._negation(one, where, depth + 1) for one in value]
                    case "properties" if isinstance(value, dict):
                        alternatives += [
                            {
                                "type": "object",
                                "properties": {name: self._negation(one, where, depth + 1)},
                                "required": [name],
                            }
                            for name, one in value.items()
                        ]
                    case "const" | "enum":
                        values = [value] if keyword == "const" else _list(value, where)
                        if not all(one is None or isinstance(one, bool) for one in values):
                            break
                        alternatives.append(
                            {
                                "anyOf": [{"type": [t for t in TYPES if t not in ("null", "boolean")]}]
                                + [{"const": one} for one in (True, False, None) if not any(one is v for v in values)]
                            }
                        )
                    case "not":
                        alternatives.append(value)
                    case "$ref":
                        alternatives.append(self._negation(self.lookup(value, where), where, depth + 1))
                    case "title" | "description" | "default" | "examples" | "$comment":
                        pass
                    case _:
                        break
                known += 1
            if known == len(schema):
                return {"anyOf": alternatives} if alternatives else False
        raise UnenforceableError(where, "what is not allowed here cannot be enforced")

    def _implications(self, condition: Any, node: Mapping[str, Any], where: str) -> Iterator[Schema]:
        if "then" in node or "else" in node:
            otherwise = {"allOf": [self._negation(condition, where, 0), node.get("else", True)]}
            yield {"anyOf": [{"allOf": [condition, node.get("then", True)]}, otherwise]}


def too_large(what: str, param: str | None = None) -> InvalidRequestError:
    """The error for a schema whose enforcement would cost too much."""
    return InvalidRequestError(f"The schema is too large to be enforced: {what}.", param, "schema_too_large")


def _exclusive_requirements(branches: Sequence[Any]) -> list[Node] | None:
    """Branches of oneOf that only name required properties, each made to exclude the others."""
    required = []
    for branch in branches:
        if not isinstance(branch, dict) or not isinstance(branch.get("required"), list):
            return None
        if branch.keys() - {"required", "type", "title", "description"} or branch.get("type", "object") != "object":
            return None
        required.append(branch["required"])
    return [
        {
            "type": "object",
            "allOf": [{"required": names}]
            + [
                {"anyOf": [{"properties": {name: False}} for name in others if name not in names]}
                for j, others in enumerate(required)
                if j != i
            ],
        }
        for i, names in enumerate(required)
    ]


def _dependency(name: str, wanted: Any) -> Schema:
    then = {"required": wanted} if isinstance(wanted, list) else wanted
    return {"anyOf": [{"properties": {name: False}}, {"allOf": [{"required": [name]}, then]}]}


def _types(value: object, where: str) -> list[str]:
    types = [value] if isinstance(value, str) else value
    if not isinstance(types, list) or not types or not all(name in (*TYPES, "integer") for name in types):
        raise UnenforceableError(where, f"{json.dumps(value)[:80]} is not a type of JSON")
    return types


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnenforceableError(where, "must be an array")
    return value


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnenforceableError(where, "must be an object")
    return value


def _names_list(value: object, where: str) -> list[str]:
    if isinstance(value, bool):
        return []  # draft 3 put it into the property
    names = _list(value, where)
    if not all(isinstance(name, str) for name in names):
        raise UnenforceableError(where, "must be an array of names")
    return list(dict.fromkeys(names))


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise UnenforceableError(where, "must be a whole number from 0 on")
    return int(value)


def _bound(value: object, where: str) -> int | float:
    """A number, or draft 4's flag that a bound is exclusive."""
    if not isinstance(value, int | float):
        raise UnenforceableError(where, "must be a number")
    return value


def _digits(multiple: int | float) -> int:
    """The digits of a multiple as one integer: 25 of 0.25, but 500 of 500."""
    return (
        multiple
        if isinstance(multiple, int)
        else int(repr(multiple).partition("e")[0].replace(".", "").strip("-") or 0)
    )


def _pattern(value: object, where: str) -> str:
    """ECMA 262 lets any character be escaped, the Rust crate only those that mean something."""
    if not isinstance(value, str):
        raise UnenforceableError(where, "must be a string")
    return re.sub(
        r"\\(.)",
        lambda escape: escape[0] if escape[1].isascii() and escape[1] not in "_/\"'`@%,;:=!<> " else escape[1],
        value,
    )


def _name(reference: str) -> str:
    return reference.removeprefix("#/$defs/")


def _nodes(document: Any) -> Iterator[Node]:
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack += reversed(node.values())
        elif isinstance(node, list):
            stack += reversed(node)
