"""What the keywords of a JSON schema may hold, read with a complaint where it is something else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from server.chat.json_schema.number_bounds import TYPES

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
UNSUPPORTED = frozenset(
    {"contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}
)


class UnenforceableError(Exception):
    """A keyword that cannot be enforced: `where` is its path in the schema."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if where else reason)


def types_of(value: object, where: str) -> list[str]:
    types = [value] if isinstance(value, str) else value
    if not isinstance(types, list) or not types or not all(name in (*TYPES, "integer") for name in types):
        raise UnenforceableError(where, f"{json.dumps(value)[:80]} is not a type of JSON")
    return types


def list_of(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnenforceableError(where, "must be an array")
    return value


def mapping_of(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnenforceableError(where, "must be an object")
    return value


def names_of(value: object, where: str) -> list[str]:
    if isinstance(value, bool):
        return []  # draft 3 put it into the property
    names = list_of(value, where)
    if not all(isinstance(name, str) for name in names):
        raise UnenforceableError(where, "must be an array of names")
    return list(dict.fromkeys(names))


def count_of(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise UnenforceableError(where, "must be a whole number from 0 on")
    return int(value)


def bound_of(value: object, where: str) -> int | float:
    """A number, or draft 4's flag that a bound is exclusive."""
    if not isinstance(value, int | float):
        raise UnenforceableError(where, "must be a number")
    return value


def digits_of(multiple: int | float) -> int:
    """The digits of a multiple as one integer: 25 of 0.25, but 500 of 500."""
    return (
        multiple
        if isinstance(multiple, int)
        else int(repr(multiple).partition("e")[0].replace(".", "").strip("-") or 0)
    )


def pattern_of(value: object, where: str) -> str:
    """ECMA 262 lets any character be escaped, the Rust crate only those that mean something."""
    if not isinstance(value, str):
        raise UnenforceableError(where, "must be a string")
    return re.sub(
        r"\\(.)",
        lambda escape: escape[0] if escape[1].isascii() and escape[1] not in "_/\"'`@%,;:=!<> " else escape[1],
        value,
    )


def _anything(value: object, where: str) -> object:
    return value


READERS: dict[str, Callable[[object, str], Any]] = {
    "type": types_of,
    "enum": list_of,
    "const": _anything,
    "required": names_of,
    "pattern": pattern_of,
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), count_of),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), bound_of),
}
"""For the keywords that hold no schemas: their value as it is enforced, or UnenforceableError."""
