"""Reads the JSON schema keywords whose values contain no schemas.

A reader gets a keyword's value and path. It returns the value as llguidance expects it, or raises UnenforceableError.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from server.chat.json_schema.number_bounds import TYPES

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
"""The values of `format` that llguidance enforces."""

_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})"
FORMAT_PATTERNS = {
    "uri-reference": rf"^(?:[A-Za-z][A-Za-z0-9+.-]*:(?:{_CHARACTER}|[:/])*|{_CHARACTER}*(?:/(?:{_CHARACTER}|[:/])*)?)"
    rf"(?:\?(?:{_CHARACTER}|[:/?])*)?(?:#(?:{_CHARACTER}|[:/?])*)?$"
}
"""Regular expressions for values of `format` that llguidance does not enforce.

Values that are neither here nor in FORMATS are ignored, as JSON Schema allows.

uri-reference: section 4.1 of RFC 3986, without checks of the authority.
"""
UNSUPPORTED = frozenset({"contains", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"})


MAX_COUNT = (1 << 31) - 1


class UnenforceableError(Exception):
    """A schema keyword cannot be enforced.

    where: path of the keyword in the schema; "" for the root, or if unknown.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if where else reason)


def types_of(value: object, where: str) -> list[str]:
    """Return the type names in `value`, a name or a list of names."""
    types = [value] if isinstance(value, str) else value
    if not isinstance(types, list) or not types or not all(name in (*TYPES, "integer") for name in types):
        raise UnenforceableError(where, f"{json.dumps(value)[:80]} is not a JSON type")
    return types


def list_of(value: object, where: str) -> list[Any]:
    """Return `value`, which must be an array."""
    if not isinstance(value, list):
        raise UnenforceableError(where, "must be an array")
    return value


def mapping_of(value: object, where: str) -> dict[str, Any]:
    """Return `value`, which must be an object."""
    if not isinstance(value, dict):
        raise UnenforceableError(where, "must be an object")
    return value


def names_of(value: object, where: str) -> list[str]:
    """Return the property names in `value` without repetitions."""
    if isinstance(value, bool):
        return []  # in draft 3, `required` is a boolean inside a property's schema
    names = list_of(value, where)
    if not all(isinstance(name, str) for name in names):
        raise UnenforceableError(where, "must be an array of strings")
    return list(dict.fromkeys(names))


def count_of(value: object, where: str) -> int:
    """Return `value`, which must be a non-negative integer or a float like 2.0.

    Counts above MAX_COUNT become MAX_COUNT.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UnenforceableError(where, "must be a non-negative integer")
    if value > MAX_COUNT:
        return MAX_COUNT
    if value != int(value):
        raise UnenforceableError(where, "must be a non-negative integer")
    return int(value)


def bound_of(value: object, where: str) -> int | float:
    """Return `value`, which must be a number."""
    if isinstance(value, bool):
        raise UnenforceableError(where, "must be a number")
    return exclusive_bound_of(value, where)


def exclusive_bound_of(value: object, where: str) -> int | float:
    """Return `value`, which must be a number, or a boolean as in draft 4."""
    if not isinstance(value, int | float) or value != value:
        raise UnenforceableError(where, "must be a number")
    return value


def multiple_of(value: object, where: str) -> int | float:
    """Return `value`, which must be a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UnenforceableError(where, "must be a number above 0")
    return value


def digits_of(multiple: int | float) -> int:
    """Return the digits of `multiple` as an integer: 25 for 0.25, 500 for 500.

    This integer determines how many states llguidance needs to enforce divisibility.
    """
    return multiple if isinstance(multiple, int) else int(repr(multiple).partition("e")[0].replace(".", ""))


def pattern_of(value: object, where: str) -> str:
    r"""Return the regular expression `value` without escapes that Rust rejects.

    Example: ECMA 262 allows `\_`, and Rust does not.
    """
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
    **dict.fromkeys(("minimum", "maximum"), bound_of),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), exclusive_bound_of),
    "multipleOf": multiple_of,
}
"""The reader for each keyword whose value contains no schemas."""
