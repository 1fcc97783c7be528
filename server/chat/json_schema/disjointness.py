"""Proves that two JSON schemas are disjoint: no value satisfies both.

A `oneOf` with disjoint branches can be enforced as `anyOf`. In this module, False means "not proven".
"""

from __future__ import annotations

from typing import Any

from server.chat.json_schema.facts import Bounds, Facts, kind_of
from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.number_bounds import Node
from server.chat.json_schema.patterns.algebra import PatternAlgebra
from server.chat.json_schema.references import References

_MAX_DEPTH = 6
_MAX_STEPS = 50_000
_MAX_POSITIONS = 3  # items of an array that are compared


class DisjointnessProver:
    """A prover for the schemas of one document, with a limit on its steps."""

    def __init__(self, references: References, patterns: PatternAlgebra) -> None:
        self._references = references
        self._patterns = patterns
        self._steps = 0
        self._known: dict[int, tuple[Any, Facts]] = {}  # by the id of the schema, which stays alive here

    def disjoint(self, a: Any, b: Any) -> bool:
        """Return whether the schemas `a` and `b` are proven disjoint."""
        return self._disjoint(self.facts(a), self.facts(b), 0)

    def facts(self, schema: Any) -> Facts:
        """Return conditions that every value of `schema` satisfies."""
        if id(schema) not in self._known:
            facts = Facts()
            facts.add(schema, self._visit, _MAX_DEPTH)
            self._known[id(schema)] = (schema, facts)
        return self._known[id(schema)][1]

    def property_schemas(self, facts: Facts, name: str) -> list[Any]:
        """Return the schemas that the property `name` must satisfy if present."""
        others = [
            schema
            for names, patterns, schema in facts.others
            if name not in names and all(self._patterns.matches(one, name) is False for one in patterns)
        ]
        return [*facts.properties.get(name, []), *others]

    def _visit(self, node: Node) -> tuple[Node, Any]:
        """Return `References.effective(node)` and the target of its `$ref`.

        The target is None if `node` has no `$ref` or the `$ref` cannot be followed.
        """
        self._steps += 1 + len(node)
        node = self._references.effective(node)
        if "$ref" not in node or self._steps > _MAX_STEPS:
            return node, None
        try:
            return node, self._references.lookup(node["$ref"], "")
        except UnenforceableError:
            return node, None  # the normalization of the reference reports the error

    def _disjoint(self, a: Facts, b: Facts, depth: int) -> bool:
        """Return whether schemas with the facts `a` and `b` are proven disjoint."""
        self._steps += 1
        if a.never or b.never:
            return True
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return False
        if self._no_value(a, b) or self._no_value(b, a):
            return True
        if all(self._disjoint_as(kind, a, b, depth) for kind in a.kinds() & b.kinds()):
            return True
        return self._no_alternative(a, b, depth) or self._no_alternative(b, a, depth)

    def _no_value(self, a: Facts, b: Facts) -> bool:
        """Return whether `a` lists its possible values and `b` excludes all of them."""
        if a.values is None:
            return False
        self._steps += len(a.values)
        return all(
            (b.values is not None and text not in b.values) or self._excludes(b, value)
            for text, value in a.values.items()
        )

    def _excludes(self, facts: Facts, value: Any) -> bool:
        """Return whether `value` contradicts `facts`."""
        kind = kind_of(value)
        if kind not in facts.types:
            return True
        match kind:
            case "integer" | "number":
                return _apart(facts.range, ((value, 0), (value, 0)))
            case "string":
                length = ((len(value), 0), (len(value), 0))
                return _apart(facts.length, length) or any(
                    self._patterns.matches(pattern, value) is False for pattern in facts.patterns
                )
        return False

    def _disjoint_as(self, kind: str, a: Facts, b: Facts, depth: int) -> bool:
        """Return whether no value of type `kind` can satisfy both `a` and `b`."""
        match kind:
            case "integer" | "number":
                return _apart(a.range, b.range)
            case "string":
                return _apart(a.length, b.length) or any(
                    self._patterns.disjoint(one, other) for one in a.patterns for other in b.patterns
                )
            case "array":
                length = int(min(_MAX_POSITIONS, max(a.size[0][0], b.size[0][0], 0)))
                return _apart(a.size, b.size) or any(
                    self._no_common(a.item_schemas(i), b.item_schemas(i), depth) for i in range(length)
                )
            case "object":
                # An object that satisfies both schemas has the property. Its value must satisfy both, too.
                return any(
                    self._no_common(self.property_schemas(a, name), self.property_schemas(b, name), depth)
                    for name in sorted(a.required | b.required)
                )
        return False

    def _no_common(self, some: list[Any], others: list[Any], depth: int) -> bool:
        """Return whether no value satisfies all schemas in both lists."""
        return any(
            self._disjoint(self.facts(one), self.facts(other), depth + 1)
            for one in (*some, True)
            for other in (*others, True)
        )

    def _no_alternative(self, a: Facts, b: Facts, depth: int) -> bool:
        """Return whether `b` excludes every branch of an `anyOf` or `oneOf` in `a`."""
        return any(
            all(self._disjoint(self.facts(branch), b, depth + 1) for branch in branches) for branches in a.alternatives
        )


def _apart(a: Bounds, b: Bounds) -> bool:
    """Return whether two ranges do not overlap."""
    return a[0] > b[1] or b[0] > a[1]
