"""Tools with random JSON schemas that use most enforced keywords and odd names.

Strings and arrays are short, because random weights rarely close them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOOLS_FILE = Path(__file__).with_name("tools.jsonl")
LONGEST_STRING = 40
LONGEST_ARRAY = 4
MAX_OPEN_PROPERTIES = 2
MAX_DEPTH = 3

WORDS = (
    "path",
    "query",
    "id",
    "user_id",
    "labels",
    "from",
    "class",
    "limit",
    "due-date",
    "x.y",
    "@type",
    "größe",
    "p1",
)
ODD_NAMES = ("two words", "it's", 'a "b"', "a=b", "f(x)", "[0]", "a,b", "**", "1st", "日本", "tab\there")
PATTERNS = ("^[a-z]{1,8}$", "^#[0-9a-f]{6}$", r"^\d{3}-\d{4}$", "^(red|green|blue)$", "^[A-Z]{2}[0-9]{0,6}$")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email", "hostname", "duration")
CONSTANTS = ("a", "two words", 'q"uote', "back\\slash", "ü", "", 0, -1, 7, 1.5, True, False, None)

Schema = dict[str, Any]


def tools_of_file() -> list[Schema]:
    """Return the functions of tools.jsonl, with bounded arguments."""
    lines = TOOLS_FILE.read_text(encoding="utf-8").splitlines()
    return [{**tool, "parameters": _bounded(tool.get("parameters", {}))} for tool in map(json.loads, lines)]


def random_tools(count: int, seed: int) -> list[Schema]:
    """Return `count` random functions."""
    rng = random.Random(seed)
    return [{"name": _tool_name(rng, i), "description": "Random.", **_Maker(rng).parameters()} for i in range(count)]


def _tool_name(rng: random.Random, number: int) -> str:
    first = rng.choice(("get", "list-all", "fs.read", "mcp__git__log", "2nd", "a/b:c", "Über"))
    return f"{first}{rng.choice('-_.')}{number}"


class _Maker:
    """A generator of one tool's schema."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._definitions: Schema = {}

    def parameters(self) -> Schema:
        if self._chance(0.04):
            return {"parameters": self._rng.choice(({}, {"type": "object"} | _closed()))}
        if self._chance(0.3):
            self._define()
        root = self._composed(0) if self._chance(0.1) else self._object(0)
        if self._definitions:
            root["$defs"] = self._definitions
        return {"parameters": root}

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _define(self) -> None:
        """Add a plain definition, and perhaps a recursive one that uses it."""
        self._definitions["plain"] = self._value(MAX_DEPTH - 1)
        if self._chance(0.5):
            again = self._rng.choice(
                (
                    {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
                    {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1},
                )
            )
            tree = {"type": "object", "properties": {"value": {"$ref": "#/$defs/plain"}, "next": again}}
            self._definitions["tree"] = tree | {"required": ["value"]} | _closed()

    def _value(self, depth: int) -> Schema:
        leaves: list[Callable[[int], Schema]] = [self._string, self._number, self._constant, self._plain]
        branches = [self._object, self._array, self._any_of, self._one_of, self._composed, self._reference]
        return self._rng.choice(leaves if depth >= MAX_DEPTH else [*leaves, *leaves, *branches])(depth)

    def _plain(self, depth: int) -> Schema:
        return {"type": self._rng.choice(("boolean", "null", "integer", "number", ["boolean", "null"]))}

    def _string(self, depth: int) -> Schema:
        schema: Schema = {"type": "string", "maxLength": self._rng.randint(0, LONGEST_STRING)}
        match self._rng.randrange(5):
            case 0:
                return {"type": "string", "pattern": self._rng.choice(PATTERNS)}
            case 1:
                return {"type": "string", "format": self._rng.choice(FORMATS), "maxLength": LONGEST_STRING}
            case 2:
                return {"type": ["string", "null"]} | {"maxLength": schema["maxLength"]}
            case 3:
                schema["minLength"] = self._rng.randint(0, schema["maxLength"])
        return schema

    def _number(self, depth: int) -> Schema:
        low = self._rng.randint(-1000, 1000)
        high = low + self._rng.randint(0, 5000)
        match self._rng.randrange(5):
            case 0:
                return {"type": "integer", "minimum": low, "maximum": high}
            case 1:
                return {"type": "number", "exclusiveMinimum": low / 8, "maximum": high / 8 + 1}
            case 2:
                return {"type": "integer", "multipleOf": self._rng.choice((2, 5, 12, 100))}
            case 3:
                return {"type": "number", "minimum": low}
        return {"type": self._rng.choice(("integer", "number"))}

    def _constant(self, depth: int) -> Schema:
        if self._chance(0.3):
            return {"const": self._rng.choice(CONSTANTS)}
        values = self._rng.sample(CONSTANTS, self._rng.randint(1, 6))
        if self._chance(0.2):
            values.append([1, {"deep": ["value"]}])
        return {"enum": values}

    def _array(self, depth: int) -> Schema:
        most = self._rng.randint(0, LONGEST_ARRAY)
        schema: Schema = {"type": "array", "items": self._value(depth + 1), "maxItems": most}
        if self._chance(0.4):
            schema["minItems"] = self._rng.randint(0, most)
        if self._chance(0.2):
            first = [self._value(depth + 1) for _ in range(2)]
            schema = {"type": "array", "prefixItems": first, "items": False, "minItems": self._rng.randint(0, 2)}
        return schema

    def _object(self, depth: int) -> Schema:
        names = self._rng.sample(WORDS, self._rng.randint(0, 3 if depth else 5))
        if self._chance(0.2):
            names.insert(self._rng.randint(0, len(names)), self._rng.choice(ODD_NAMES))
        schema: Schema = {"type": "object", "properties": {name: self._value(depth + 1) for name in names}}
        if names and self._chance(0.7):
            schema["required"] = self._rng.sample(names, self._rng.randint(1, len(names)))
        match self._rng.randrange(5):
            case 0:
                return schema | {"additionalProperties": self._string(depth)}
            case 1 if not names:
                patterns = {"^x-[a-z]{1,5}$": self._string(depth)}
                return schema | _closed() | {"patternProperties": patterns, "maxProperties": 2}
        return schema | _closed()

    def _any_of(self, depth: int) -> Schema:
        if self._chance(0.5):
            return {"anyOf": [self._value(depth + 1), {"type": "null"}]}
        return {"anyOf": [self._value(depth + 1) for _ in range(self._rng.randint(2, 3))]}

    def _one_of(self, depth: int) -> Schema:
        def branch(kind: str) -> Schema:
            properties = {"kind": {"const": kind}, "value": self._value(depth + 1)}
            return {"type": "object", "properties": properties, "required": ["kind"]} | _closed()

        return {"oneOf": [branch(kind) for kind in ("circle", "square")]}

    def _composed(self, depth: int) -> Schema:
        """Return an object composed of two parts by allOf."""
        parts = [
            {"type": "object", "properties": {name: self._value(depth + 1)}, "required": [name]}
            for name in self._rng.sample(WORDS, 2)
        ]
        names = {name: True for part in parts for name in part["properties"]}
        return {"allOf": [*parts, {"properties": names, "additionalProperties": False}]}

    def _reference(self, depth: int) -> Schema:
        if not self._definitions:
            return self._string(depth)
        return {"$ref": f"#/$defs/{self._rng.choice(sorted(self._definitions))}"}


def _closed() -> Schema:
    return {"additionalProperties": False}


def _bounded(schema: Any) -> Any:
    """Return `schema` with bounded strings, arrays and additional properties."""
    if isinstance(schema, list):
        return [_bounded(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = {
        keyword: {name: _bounded(one) for name, one in value.items()}
        if keyword in ("properties", "patternProperties", "$defs", "definitions")
        else value
        if keyword in ("enum", "const", "default", "examples", "allOf")
        else _bounded(value)
        for keyword, value in schema.items()
    }
    types = bounded.get("type", ())
    types = [types] if isinstance(types, str) else types
    if "string" in types and not bounded.keys() & {"enum", "const", "pattern"}:
        bounded["maxLength"] = max(
            min(bounded.get("maxLength", LONGEST_STRING), LONGEST_STRING), bounded.get("minLength", 0)
        )
    if "array" in types:
        bounded["maxItems"] = max(
            min(bounded.get("maxItems", LONGEST_ARRAY), LONGEST_ARRAY), bounded.get("minItems", 0)
        )
        bounded.setdefault("items", {"type": "string", "maxLength": LONGEST_STRING})
    others = bounded.get("additionalProperties", "properties" not in bounded)
    if "object" in types and "properties" in bounded:
        bounded.setdefault("additionalProperties", False)
    if "object" in types and others is not False and not bounded.keys() & {"patternProperties", "allOf", "anyOf"}:
        bounded["additionalProperties"] = {"type": "string", "maxLength": 20} if others is True else others
        if not bounded.get("properties"):  # else it cannot be enforced
            bounded.setdefault("maxProperties", MAX_OPEN_PROPERTIES)
    return bounded
