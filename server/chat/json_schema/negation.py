"""Keywords of a JSON schema told by others that can be enforced: `not`, `if`, dependencies, some forms of `oneOf`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from server.chat.json_schema.keywords import UnenforceableError, list_of, mapping_of, names_of, types_of
from server.chat.json_schema.number_bounds import TYPES, Node, Schema
from server.chat.json_schema.references import References

MAX_NEGATIONS = 20  # of one in the other
ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$comment"})


class Rewriter:
    """Rewrites keywords of one document. `count` is told of each schema that is looked at, with its depth."""

    def __init__(self, references: References, count: Callable[[int], None]) -> None:
        self._references = references
        self._count = count

    def conjuncts(self, keyword: str, node: Node, where: str) -> Iterator[Schema]:
        """What must hold besides where `node` has this `keyword`, at `where`. Raises UnenforceableError."""
        value = node[keyword]
        if keyword == "not":
            yield self._negation(value, where, 0)
        elif keyword == "if":
            yield from self._implication(value, node, where)
        else:
            for name, wanted in mapping_of(value, where).items():
                then = {"required": wanted} if isinstance(wanted, list) else wanted
                yield {"anyOf": [{"properties": {name: False}}, {"allOf": [{"required": [name]}, then]}]}

    def _implication(self, condition: Any, node: Mapping[str, Any], where: str) -> Iterator[Schema]:
        if "then" in node or "else" in node:
            otherwise = {"allOf": [self._negation(condition, where, 0), node.get("else", True)]}
            yield {"anyOf": [{"allOf": [condition, node.get("then", True)]}, otherwise]}

    def _negation(self, schema: Any, where: str, depth: int) -> Schema:
        """A schema that holds exactly where `schema` does not; only a few keywords have one."""
        self._count(depth)
        if isinstance(schema, bool):
            return not schema
        if not isinstance(schema, dict) or depth >= MAX_NEGATIONS:
            raise _no_negation(where)
        alternatives = [
            one
            for keyword, value in schema.items()
            if keyword not in ANNOTATIONS
            for one in self._alternatives(keyword, value, where, depth + 1)
        ]
        return {"anyOf": alternatives} if alternatives else False

    def _alternatives(self, keyword: str, value: Any, where: str, depth: int) -> Iterator[Schema]:
        """The ways in which a `keyword` does not hold."""
        match keyword:
            case "required":
                for name in names_of(value, where):
                    yield {"type": "object", "properties": {name: False}}
            case "type" if "integer" not in (types := types_of(value, where)) or "number" in types:
                yield {"type": [name for name in TYPES if name not in types]}
            case "anyOf":
                yield {"allOf": [self._negation(one, where, depth) for one in list_of(value, where)]}
            case "allOf":
                yield from (self._negation(one, where, depth) for one in list_of(value, where))
            case "properties":
                for name, one in mapping_of(value, where).items():
                    never = self._negation(one, where, depth)
                    yield {"type": "object", "properties": {name: never}, "required": [name]}
            case "const":
                yield _none_of([value], where)
            case "enum":
                yield _none_of(list_of(value, where), where)
            case "not":
                yield value
            case "$ref":
                yield self._negation(self._references.lookup(value, where), where, depth)
            case _:
                raise _no_negation(where)


def exclusive_requirements(branches: Sequence[Any]) -> list[Node] | None:
    """Branches of oneOf that only name required properties, each made to exclude the others; None for any others."""
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


def _none_of(values: Sequence[Any], where: str) -> Schema:
    """Anything but `values`, which are all of true, false and null."""
    if not all(value is None or isinstance(value, bool) for value in values):
        raise _no_negation(where)
    others = [one for one in (True, False, None) if not any(one is value for value in values)]
    return {
        "anyOf": [{"type": [t for t in TYPES if t not in ("null", "boolean")]}, *({"const": one} for one in others)]
    }


def _no_negation(where: str) -> UnenforceableError:
    return UnenforceableError(where, "what is not allowed here cannot be enforced")
