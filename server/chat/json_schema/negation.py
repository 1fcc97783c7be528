"""Rewrites keywords that llguidance lacks into equivalent supported ones.

The rewritten keywords are `not`, `if`/`then`/`else`, the dependency keywords and, in some cases, `oneOf`. Each
rewriting is an equivalence of propositional logic, in which `allOf` is "and", `anyOf` is "or" and `false` admits no
value:

- "if A then B else C" is "(A and B) or (not A and C)";
- "property p requires S" is "p is absent, or p is present and S holds";
- "not (A and B)" is "not A or not B" (De Morgan's laws), so negations move inwards, down to single keywords.

The keywords in a schema are joined by "and". The negation of a keyword must be written without `not`: the negation of
`type` lists the other types, and the negation of `required` forbids one of the properties. Some keywords, for example
`pattern`, have no such negation. Negating a schema with such a keyword raises UnenforceableError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from server.chat.json_schema.keywords import UnenforceableError, list_of, mapping_of, names_of, types_of
from server.chat.json_schema.number_bounds import TYPES, Node, Schema
from server.chat.json_schema.references import References

MAX_NEGATIONS = 20  # levels of nested schemas that are negated
ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$comment"})


class Rewriter:
    """A rewriter of unsupported keywords in the schemas of one document.

    references: finds the schemas to which a `$ref` in the document points.
    count_node: called with the depth of each negated schema. May raise an error to limit the total work.
    """

    def __init__(self, references: References, count_node: Callable[[int], None]) -> None:
        self._references = references
        self._count_node = count_node

    def conjuncts(self, keyword: str, node: Node, where: str) -> Iterator[Schema]:
        """Yield schemas that together are equivalent to `keyword` of `node`.

        where: the path of the keyword, for errors.

        Raises UnenforceableError if the keyword cannot be rewritten.
        """
        value = node[keyword]
        if keyword == "not":
            yield self._negation(value, where, 0)
        elif keyword == "if":
            yield from self._implication(value, node, where)
        else:
            for name, dependency in mapping_of(value, where).items():
                then = {"required": dependency} if isinstance(dependency, list) else dependency
                yield {"anyOf": [{"properties": {name: False}}, {"allOf": [{"required": [name]}, then]}]}

    def exclusive_requirements(self, branches: Sequence[Any]) -> list[Node] | None:
        """Make `oneOf` branches disjoint if `required` is all that they contain.

        Each branch gets one condition for every other branch: at least one property that the other branch requires must
        be absent. For example, the branches "requires a" and "requires b" become "requires a and forbids b" and
        "requires b and forbids a". At most one of the resulting branches can match, so `anyOf` can replace `oneOf`.

        Returns None if a branch has keywords besides `required`, `title`, `description` and `"type": "object"`.
        """
        required = []
        for branch in branches:
            if not isinstance(branch, dict) or not isinstance(branch.get("required"), list):
                return None
            if branch.keys() - {"required", "type", "title", "description"} or branch.get("type", "object") != "object":
                return None
            required.append(branch["required"])
        for _ in range(len(required) * sum(map(len, required))):  # limits the work before it begins
            self._count_node(0)
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

    def negation(self, schema: Any, where: str) -> Schema:
        """Return a schema that admits exactly the values that `schema` does not admit.

        Raises UnenforceableError if a keyword in `schema` cannot be negated.
        """
        return self._negation(schema, where, 0)

    def _implication(self, condition: Any, node: Mapping[str, Any], where: str) -> Iterator[Schema]:
        """Yield a schema that is equivalent to `if`, `then` and `else` of `node`.

        Yields nothing if `node` has neither `then` nor `else`.
        """
        if "then" in node or "else" in node:
            otherwise = {"allOf": [self._negation(condition, where, 0), node.get("else", True)]}
            yield {"anyOf": [{"allOf": [condition, node.get("then", True)]}, otherwise]}

    def _negation(self, schema: Any, where: str, depth: int) -> Schema:
        """Return the negation of `schema`.

        depth: the number of negated schemas around `schema`.

        Raises UnenforceableError if a keyword in `schema` cannot be negated or the nesting is too deep.
        """
        self._count_node(depth)
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
        """Yield schemas that negate `keyword`.

        A value satisfies at least one of these schemas if and only if the value violates the keyword.

        Raises UnenforceableError if the keyword cannot be negated.
        """
        match keyword:
            case "required":
                for name in names_of(value, where):
                    self._count_node(depth)
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


def _none_of(values: Sequence[Any], where: str) -> Schema:
    """Return a schema of all values except `values`.

    Raises UnenforceableError if `values` contains anything except true, false and null.
    """
    if not all(value is None or isinstance(value, bool) for value in values):
        raise _no_negation(where)
    others = [one for one in (True, False, None) if not any(one is value for value in values)]
    return {
        "anyOf": [{"type": [t for t in TYPES if t not in ("null", "boolean")]}, *({"const": one} for one in others)]
    }


def _no_negation(where: str) -> UnenforceableError:
    return UnenforceableError(where, "this negation cannot be enforced")
