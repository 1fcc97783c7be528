"""Replaces schema keywords that llguidance lacks with keywords that it supports.

Most rewritings follow propositional logic. `allOf` is "and", `anyOf` is "or". Examples:

- "if A then B else C" is "(A and B) or (not A and C)".
- "p requires S" is "p is absent, or p is present and S holds".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.chat.json_schema.keywords import UnenforceableError, list_of, mapping_of
from server.chat.json_schema.number_bounds import Node, Schema
from server.chat.json_schema.patterns.algebra import PatternAlgebra
from server.chat.json_schema.patterns.parser import UnreadablePatternError
from server.chat.json_schema.references import References
from server.chat.json_schema.rewriting.negation import Negator

ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$comment"})
MAX_REFERENCES = 10  # in a chain to the schema of property names


class Rewriter:
    """A rewriter of keywords in one document."""

    def __init__(self, references: References, negator: Negator, patterns: PatternAlgebra) -> None:
        self._references = references
        self._negator = negator
        self._patterns = patterns

    def conjuncts(self, keyword: str, node: Node, where: str) -> Iterator[Schema]:
        """Yield schemas that together are equivalent to `keyword` of `node`.

        where: path of the keyword, for errors.

        Raises UnenforceableError if the keyword cannot be rewritten.
        """
        value = node[keyword]
        match keyword:
            case "not":
                within = {name: one for name, one in node.items() if name != "not"}
                yield self._negator.negation(value, where, within=within)
            case "if" if node.keys() & {"then", "else"}:
                within = {name: one for name, one in node.items() if name not in ("if", "then", "else")}
                negation = self._negator.negation(value, where, within=within)
                otherwise = {"allOf": [negation, node.get("else", True)]}
                yield {"anyOf": [{"allOf": [value, node.get("then", True)]}, otherwise]}
            case "propertyNames":
                yield from self._names(value, where)
            case "dependencies" | "dependentRequired" | "dependentSchemas":
                for name, dependency in mapping_of(value, where).items():
                    then = {"required": dependency} if isinstance(dependency, list) else dependency
                    yield {"anyOf": [{"properties": {name: False}}, {"allOf": [{"required": [name]}, then]}]}

    def _names(self, value: Any, where: str) -> Iterator[Schema]:
        """Yield a schema for objects whose property names satisfy `value`.

        Yields nothing if all names satisfy `value`.
        """
        for _ in range(MAX_REFERENCES):
            if _keywords(value) == {"$ref"}:
                value = self._references.lookup(value["$ref"], where)
        if _admits_all_strings(value):
            return
        keywords = _keywords(value) - {"type"}
        if value is False:
            yield {"additionalProperties": False}
        elif not _admits_strings(value) or keywords not in ({"pattern"}, {"enum"}, {"const"}):
            raise UnenforceableError(where, "property names can be enforced only as a pattern, an enum or a const")
        elif "pattern" in value:
            yield {"patternProperties": {value["pattern"]: True}, "additionalProperties": False}
        else:
            names = list_of(value["enum"], where) if "enum" in value else [value["const"]]
            properties = {name: True for name in names if isinstance(name, str)}
            yield {"properties": properties, "additionalProperties": False}

    def without_universal_patterns(self, node: Node) -> Node:
        """Return an equivalent of `node` without patterns that match every name.

        Moves the schemas of these patterns to `additionalProperties`, because llguidance rejects two patterns that
        match the same name.
        """
        patterns = node.get("patternProperties")
        if not isinstance(patterns, dict):
            return node
        universal = [pattern for pattern in patterns if self._is_universal(pattern)]
        if not universal:
            return node
        rest = {pattern: one for pattern, one in patterns.items() if pattern not in universal}
        others = [{"additionalProperties": patterns[pattern]} for pattern in universal]
        plain = {name: one for name, one in node.items() if name not in ("patternProperties", "additionalProperties")}
        if not rest and len(others) == 1 and not plain.get("properties"):
            return {**plain, **others[0]}
        return {
            **plain,
            **({"patternProperties": rest} if rest else {}),
            "allOf": [*list_of(node.get("allOf", []), "allOf"), *others],
        }

    def _is_universal(self, pattern: str) -> bool:
        try:
            return self._patterns.others(pattern) is None
        except UnreadablePatternError:
            return False


def _admits_all_strings(schema: object) -> bool:
    """Return whether `schema` evidently admits every string."""
    return schema is True or (_admits_strings(schema) and _keywords(schema) <= {"type"})


def _admits_strings(schema: object) -> bool:
    """Return whether `schema` is a node whose `type` admits strings."""
    types = schema.get("type", "string") if isinstance(schema, dict) else ()
    return "string" in ([types] if isinstance(types, str) else types)


def _keywords(schema: object) -> set[str]:
    return set(schema) - ANNOTATIONS if isinstance(schema, dict) else set()
