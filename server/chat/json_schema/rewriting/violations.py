"""Writes violations of single keywords.

A violation of a keyword is a schema whose values break it. Example: `{"type": "string", "maxLength": 2}` is a violation
of `minLength: 3`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

from server.chat.json_schema.keywords import UnenforceableError, bound_of
from server.chat.json_schema.number_bounds import Node, Schema

MAX_PAIRS = 20  # pairs of branches of `oneOf`

Violation = Callable[[], Schema]
"""A function that returns a violation, or raises UnenforceableError."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The conditions under which a negation is written.

    where: path of the rewritten keyword, for errors.
    within: a schema. The negation need only be correct for values that match it.
    lossy: whether the negation may exclude valid values.
    depth: number of enclosing negated schemas.
    """

    where: str
    within: Any
    lossy: bool
    depth: int = 0

    def inside(self, within: Any) -> Scope:
        """Return the scope of a subschema whose values satisfy `within`."""
        return replace(self, within=within, depth=self.depth + 1)


def pairs(branches: Sequence[Any], scope: Scope) -> Sequence[Violation]:
    """Return the violations of `oneOf` by values that satisfy two branches."""
    if math.comb(len(branches), 2) > MAX_PAIRS:
        return [missing(scope)]
    return [partial(all_of, *pair) for pair in combinations(branches, 2)]


def all_of(*schemas: Any) -> Schema:
    """Return a schema for the values that satisfy all of `schemas`."""
    return {"allOf": list(schemas)}


def constant(value: bool) -> Schema:
    """Return a schema that admits only `value`."""
    return {"const": value}


def without_property(name: str) -> Schema:
    """Return a schema for the objects without the property `name`."""
    return {"type": "object", "properties": {name: False}}


def gaps(numbers: Sequence[float]) -> Sequence[Violation]:
    """Return the violations of an `enum` with these numbers, which must be sorted.

    Example: for [1, 5], schemas for the numbers below 1, between 1 and 5, and above 5.
    """
    lows: list[Node] = [{}, *({"exclusiveMinimum": one} for one in numbers)]
    highs: list[Node] = [*({"exclusiveMaximum": one} for one in numbers), {}]
    return [partial(dict, type="number", **low, **high) for low, high in zip(lows, highs, strict=True)]


def structure(value: Any) -> Node:
    """Return a schema that `value` satisfies, but no other value of its type.

    value: an array or an object.
    """
    if isinstance(value, list):
        return {"prefixItems": [{"const": one} for one in value], "items": False, "minItems": len(value)}
    properties = {name: {"const": one} for name, one in value.items()}
    return {"properties": properties, "required": list(value), "additionalProperties": False}


def of_length(keyword: str, kind: str, count: int) -> Sequence[Violation]:
    """Return the violations of `minLength`, `maxLength`, `minItems` or `maxItems`."""
    unit = keyword[3:]
    if keyword.startswith("max"):
        return [lambda: {"type": kind, f"min{unit}": count + 1}]
    return [lambda: {"type": kind, f"max{unit}": count - 1}] if count else []


def of_number(keyword: str, schema: Node, where: str) -> Sequence[Violation]:
    """Return the violations of a bound in `schema`, such as `minimum`."""
    value = bound_of(schema[keyword], where)
    if isinstance(value, bool):
        return []  # in draft 4, makes the other bound exclusive
    end = keyword[-7:]
    exclusive = keyword.startswith("exclusive") or schema.get(f"exclusive{end.capitalize()}") is True
    opposite = "maximum" if end.lower() == "minimum" else "minimum"
    return [lambda: {"type": "number", opposite if exclusive else f"exclusive{opposite.capitalize()}": value}]


def missing(scope: Scope) -> Violation:
    """Return a placeholder for violations that cannot be written.

    Calling it raises UnenforceableError.
    """
    return partial(raise_, no_negation(scope))


def raise_(error: UnenforceableError) -> Schema:
    """Raise `error`."""
    raise error


def no_negation(scope: Scope) -> UnenforceableError:
    """Return the error for a schema whose negation cannot be written."""
    return UnenforceableError(scope.where, "this negation cannot be enforced")
