"""Converts `oneOf` to `anyOf`.

The two are equivalent if no value satisfies two branches. Branches that may overlap are therefore narrowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from server.chat.json_schema.closing import Closer, Place, closed
from server.chat.json_schema.disjointness import DisjointnessProver
from server.chat.json_schema.keywords import UnenforceableError, list_of
from server.chat.json_schema.number_bounds import Node, Schema
from server.chat.json_schema.rewriting.negation import Negator

MAX_ALTERNATIVES = 8  # of a branch, after multiplying the alternatives of all schemas that narrow it


class OverlapError(UnenforceableError):
    """Two branches of a `oneOf` may both match and cannot be narrowed.

    branches: the branches without narrowing.
    """

    def __init__(self, where: str, i: int, j: int, branches: Sequence[Schema]) -> None:
        reason = f"branches {i} and {j} may both match; give both a required property with different constants"
        super().__init__(where, reason)
        self.branches = branches


class OneOf:
    """A converter of `oneOf` to `anyOf` for the schemas of one document."""

    def __init__(self, closer: Closer, prover: DisjointnessProver, negator: Negator) -> None:
        self._closer = closer
        self._prover = prover
        self._negator = negator

    def disjoint_branches(self, node: Node, place: Place, where: str) -> Sequence[Schema]:
        """Return branches for an `anyOf` that can replace the `oneOf` of `node`.

        Each branch excludes the values of the other branches. A branch may also exclude a few valid values.
        Raises OverlapError if these branches cannot be written.
        """
        branches = list_of(node["oneOf"], where)
        siblings = {keyword: value for keyword, value in node.items() if keyword != "oneOf"}
        closings = self._closings(siblings, branches, place)
        generated = [
            {"allOf": [siblings, branch, *([] if closing is None else [closing])]}
            for branch, closing in zip(branches, closings, strict=True)
        ]
        narrowed: list[Schema] = []
        for i, (branch, one) in enumerate(zip(branches, generated, strict=True)):
            rest = []
            for j, other in enumerate(branches):
                if i != j and not self._prover.disjoint(one, other):
                    try:
                        rest.append(self._without(other, one, where))
                    except UnenforceableError:
                        overlapping = self._closed(branches, closings, place)
                        raise OverlapError(where, min(i, j), max(i, j), overlapping) from None
            narrowed.append(False if False in rest else {"allOf": [branch, *_few(rest)]} if rest else branch)
        if len(branches) > 1 and not any(narrowed):
            raise OverlapError(where, 0, 1, self._closed(branches, closings, place))
        return self._closed(narrowed, closings, place)

    def _without(self, other: Any, one: Any, where: str) -> Schema:
        """Return a negation of `other` for values that match `one`.

        The negation may exclude valid values if no exact negation can be written.
        """
        try:
            return self._negator.negation(other, where, within=one)
        except UnenforceableError:
            return self._negator.negation(other, where, within=one, lossy=True)

    def _closed(self, branches: Sequence[Any], closings: Sequence[Node | None], place: Place) -> list[Schema]:
        """Return `branches`, each combined with its schema from `closings`, if any."""
        return [
            branch
            if closing is None or branch is False or (place.alone and self._closer.names(branch).closable)
            else {"allOf": [branch, closing]}
            for branch, closing in zip(branches, closings, strict=True)
        ]

    def _closings(self, siblings: Node, branches: Sequence[Any], place: Place) -> list[Node | None]:
        """Return, for each branch, a schema that forbids additional properties.

        The schema permits the properties of the branch and of `siblings`, the keywords beside `oneOf`. None leaves the
        branch unchanged.
        """
        context = self._closer.names(siblings)
        if not place.alone and (place.listed is None or context.is_open or context.closed or not context.is_whole):
            return [None] * len(branches)
        closings: list[Node | None] = []
        for branch in branches:
            names = self._closer.names(branch)
            closings.append(closed({**context.all, **names.all}) if names.closable else None)
        return closings


def _few(schemas: Sequence[Schema]) -> Sequence[Schema]:
    """Return `schemas`, or stricter schemas if `schemas` have too many alternatives.

    Each `anyOf` is then replaced, if possible, by a single alternative that only requires properties.
    """
    alternatives = [one["anyOf"] if isinstance(one, dict) and one.keys() == {"anyOf"} else [one] for one in schemas]
    if math.prod(map(len, alternatives)) <= MAX_ALTERNATIVES:
        return schemas
    simple = [[one for one in some if _is_requirement(one)] for some in alternatives]
    common = [one for one in simple[0] if all(one in some for some in simple)]
    if common:
        return common[:1]
    return [some[0] if some else schema for some, schema in zip(simple, schemas, strict=True)]


def _is_requirement(schema: Schema) -> bool:
    """Return whether `schema` only requires properties."""
    return isinstance(schema, dict) and schema.keys() == {"type", "required"}
