"""Rewrites `minProperties` and `maxProperties` of objects with known properties.

Example: with optional properties a, b and c, `minProperties: 2` requires a and b, a and c, or b and c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from server.chat.json_schema.closing import Names
from server.chat.json_schema.keywords import UnenforceableError, count_of, names_of
from server.chat.json_schema.number_bounds import TYPES, Node, Schema

COUNTS = ("minProperties", "maxProperties")
MAX_CHOICES = 50  # alternatives that replace one keyword


def counted(node: Node, names: Names | None) -> dict[str, list[Schema]] | None:
    """Return schemas that replace `minProperties` and `maxProperties`, keyed by keyword.

    names: property names in the node, or None if other schemas apply to the same value.

    Returns None if `node` has neither keyword, or if its keywords cannot be replaced.
    """
    # llguidance supports these keywords only if all listed properties are required.
    possible = _possible(node, names)
    if not node.keys() & set(COUNTS) or possible is None:
        return None
    try:
        required = [name for name in names_of(node.get("required", []), "") if name in possible]
        counts = {keyword: count_of(node[keyword], "") for keyword in COUNTS if keyword in node}
    except UnenforceableError:
        return None  # the normalization of the keywords reports the error
    optional = [name for name in possible if name not in required]
    replaced: dict[str, list[Schema]] = {}
    for keyword, count in counts.items():
        needed = count - len(required)
        chosen = max(0, needed if keyword == "minProperties" else len(optional) - needed)
        if not chosen:
            replaced[keyword] = []
        elif chosen > len(optional):
            replaced[keyword] = [{"type": [kind for kind in TYPES if kind != "object"]}]
        elif math.comb(len(optional), chosen) > MAX_CHOICES:
            return None
        elif keyword == "maxProperties":
            replaced[keyword] = (
                [{"anyOf": [_absent(some) for some in combinations(optional, chosen)]}] if chosen else []
            )
        elif chosen == 1:  # at most one of these alternatives matches, so the parser follows only one
            alternatives = [{"required": [name], **_absent(optional[:i])} for i, name in enumerate(optional)]
            replaced[keyword] = [{"anyOf": alternatives}]
        else:
            replaced[keyword] = [{"anyOf": [{"required": list(some)} for some in combinations(optional, chosen)]}]
    return replaced


def _possible(node: Node, names: Names | None) -> Sequence[str] | None:
    """Return all properties that objects of `node` may have, or None if unknown."""
    properties = node.get("properties")
    if not isinstance(properties, dict) or "patternProperties" in node:
        return None
    if node.get("additionalProperties") is False:
        return [name for name, schema in properties.items() if schema is not False]
    return list(names.all) if names is not None and names.closable else None


def _absent(names: Sequence[str]) -> Node:
    return {"properties": dict.fromkeys(names, False)}
