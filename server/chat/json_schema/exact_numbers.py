"""Enforces numbers that llguidance would round, because it reads them as floats.

Supports constants, and integers between bounds. Raises UnenforceableError for other schemas with these numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from server.chat.json_schema.keywords import UnenforceableError
from server.chat.json_schema.number_bounds import LARGEST_NUMBER, Node

_EXCLUSIVE = {"exclusiveMinimum", "exclusiveMaximum"}
_BOUNDS = {"minimum", "maximum"} | _EXCLUSIVE
_CONSTANTS = frozenset({"type", "enum", "const"})
_RANGE = frozenset({"type", *_BOUNDS})
_TYPES = {"integer": int, "number": int | float, "string": str, "boolean": bool, "array": list, "object": dict}


def is_exact(value: Any) -> bool:
    """Return whether llguidance can enforce all numbers in `value` without rounding."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            bounds = [_number(one.get(name)) or 0 for name in _BOUNDS]
            if one.keys() & _EXCLUSIVE and any(2**53 <= abs(bound) < LARGEST_NUMBER for bound in bounds):
                return False  # llguidance adds 1 to an exclusive bound, and the float would be rounded
            stack += one.values()
        elif isinstance(one, list):
            stack += one
        elif isinstance(one, int | float) and not (abs(one) <= LARGEST_NUMBER and float(one) == one):
            return False
    return True


def exact_rule(schema: Node) -> str:
    """Return the body of a Lark rule for the values that satisfy `schema`.

    Raises UnenforceableError if no value satisfies `schema`, or if its numbers cannot be enforced exactly.
    """
    if schema.keys() & {"enum", "const"} and schema.keys() <= _CONSTANTS:
        return " | ".join(_literal(value) for value in _constants(schema))
    if schema.get("type") in ("integer", ["integer"]) and schema.keys() <= _RANGE:
        return f"/{integer_pattern(*_bounds(schema))}/"
    raise UnenforceableError(
        "", f"numbers beyond {2**53} are supported only if an argument or the whole answer is an integer or a constant"
    )


def _constants(schema: Node) -> list[Any]:
    values = schema.get("enum", [schema.get("const")])
    values = [one for one in values if "const" not in schema or _equal(one, schema["const"])]
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    values = [one for one in values if kinds is None or any(_is_of(one, kind) for kind in kinds)]
    if not values:
        raise UnenforceableError("", "no value satisfies the schema")
    return values


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _is_of(value: Any, kind: str) -> bool:
    if kind == "null" or isinstance(value, bool):
        return value is None if kind == "null" else kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _literal(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise UnenforceableError("", "infinity is not a JSON number") from None
    return json.dumps(text, ensure_ascii=False)


def _bounds(schema: Node) -> tuple[int, int]:
    """Return the least and the greatest integer within the bounds of `schema`.

    A missing bound becomes a number at least LARGEST_NUMBER away from zero.
    """
    # Ten times the other bound lies beyond it, so that the range is not empty.
    low, high = _low(schema), _high(schema)
    low = low if low is not None else min(-LARGEST_NUMBER, 10 * high if high is not None else 0)
    high = high if high is not None else max(LARGEST_NUMBER, 10 * low)
    if low > high:
        raise UnenforceableError("", "no integer lies between the bounds of the schema")
    return low, high


def _low(schema: Node) -> int | None:
    lows, exclusive = [], schema.get("exclusiveMinimum")
    minimum = _number(schema.get("minimum"))
    if minimum is not None:
        lows.append(math.floor(minimum) + 1 if exclusive is True else math.ceil(minimum))
    if (bound := _number(exclusive)) is not None:
        lows.append(math.floor(bound) + 1)
    return max(lows, default=None)


def _high(schema: Node) -> int | None:
    """Return the greatest integer within the upper bounds; None without upper bounds."""
    turned: Node = {}  # with reversed signs: `maximum: 5` becomes `minimum: -5`
    for name, other in (("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")):
        bound = _number(schema.get(other))
        turned[name] = schema.get(other) if bound is None else -bound
    low = _low(turned)
    return None if low is None else -low


def _number(value: Any) -> int | float | None:
    """Return `value` if it is a finite number, otherwise None."""
    finite = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != math.inf
    return value if finite else None


def integer_pattern(low: int, high: int) -> str:
    """Return a regular expression for the integers from `low` to `high` inclusive."""
    parts = []
    if low < 0:
        parts.append(f"-({'|'.join(_naturals(max(1, -high), -low))})")
    if high >= 0:
        parts += _naturals(max(0, low), high)
    return "|".join(parts)


def _naturals(low: int, high: int) -> Iterator[str]:
    """Yield patterns that together match the natural numbers from `low` to `high`."""
    for digits in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (digits - 1) if digits > 1 else 0), min(high, 10**digits - 1)
        yield from _same_length(str(first), str(last))


def _same_length(low: str, high: str) -> Iterator[str]:
    """Yield patterns that together match the digit strings from `low` to `high`.

    `low` and `high` must have the same length.
    """
    if low == high:
        yield low
    elif low.strip("0") == "" and high.strip("9") == "":
        yield f"[0-9]{{{len(low)}}}"
    elif low[0] == high[0]:
        yield from (low[0] + rest for rest in _same_length(low[1:], high[1:]))
    else:
        rest = len(low) - 1
        first, last = int(low[0]), int(high[0])
        if low[1:].strip("0"):
            yield from (low[0] + part for part in _same_length(low[1:], "9" * rest))
            first += 1
        if high[1:].strip("9"):
            yield from (high[0] + part for part in _same_length("0" * rest, high[1:]))
            last -= 1
        if first <= last:
            yield f"[{first}-{last}]" + (f"[0-9]{{{rest}}}" if rest else "")
