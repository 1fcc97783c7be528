"""Random schemas, grammars and regexes that cost a server as much as possible."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

MOST_CHARACTERS = 60_000
HUGE = (2**31, 2**53 + 1, 2**63, 10**30, 1e308, -(2**63), 0)
KEYWORDS = ("minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "multipleOf", "minProperties")


def hostile_form(rng: random.Random) -> dict[str, Any]:
    """Return the fields of a chat with a hostile form of at most MOST_CHARACTERS."""
    while True:
        form = rng.choice((_tool, _tool, _answer, _answer, _regex, _grammar))(rng)
        if len(json.dumps(form)) <= MOST_CHARACTERS:
            return form


def _tool(rng: random.Random) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"x": _schema(rng)}, "$defs": _definitions(rng)}
    function = {"name": "f", "parameters": rng.choice((schema, _schema(rng)))}
    if not isinstance(function["parameters"], dict):
        function["parameters"] = schema
    choice = rng.choice(("required", "auto"))
    return {"tools": [{"type": "function", "function": function}], "tool_choice": choice}


def _answer(rng: random.Random) -> dict[str, Any]:
    schema = {"allOf": [_schema(rng)], "$defs": _definitions(rng)}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _regex(rng: random.Random) -> dict[str, Any]:
    return {"guided_regex": _pattern(rng)}


def _grammar(rng: random.Random) -> dict[str, Any]:
    count = rng.choice((1, 3, 30, 300, 3000))
    parts = [f"r{rng.randrange(count)}" for _ in range(4)] + ['"a"', '"b"', "/[a-z]+/", '"c"{1,1000}', "/[^a]/"]
    rules = [
        f"r{i}: " + " | ".join(" ".join(rng.choices(parts, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4)))
        for i in range(count)
    ]
    return {"guided_grammar": "start: r0\n" + "\n".join(rules)}


def _definitions(rng: random.Random) -> dict[str, Any]:
    return {f"d{i}": _schema(rng) for i in range(4)}


def _schema(rng: random.Random, depth: int = 0) -> Any:
    """Return a random schema, perhaps recursive, deep, wide or with huge numbers."""
    makers: tuple[Callable[[random.Random, int], Any], ...] = (_leaf, _leaf, _reference)
    if depth < 3:
        makers += (_combined, _combined, _object, _wide, _negated)
    return rng.choice(makers)(rng, depth)


def _leaf(rng: random.Random, depth: int) -> Any:
    number = {rng.choice(KEYWORDS): rng.choice(HUGE)}
    return rng.choice(
        (
            {"type": "string", "pattern": _pattern(rng)},
            {"type": rng.choice(("integer", "number", "string", "array")), **number},
            {"enum": [rng.choice(HUGE) for _ in range(rng.choice((1, 1000)))]},
            {"const": rng.choice(HUGE)},
        )
    )


def _reference(rng: random.Random, depth: int) -> Any:
    reference = {"$ref": rng.choice(("#", *(f"#/$defs/d{i}" for i in range(4))))}
    return rng.choice((reference, {"allOf": [reference] * rng.choice((1, 2, 150))}, {"items": reference}))


def _combined(rng: random.Random, depth: int) -> Any:
    branches = [_schema(rng, depth + 1) for _ in range(rng.randint(1, 4))]
    return {rng.choice(("allOf", "anyOf", "oneOf")): branches * rng.choice((1, 1, 20 if depth == 0 else 2))}


def _object(rng: random.Random, depth: int) -> Any:
    count = rng.choice((1, 3, 100 if depth == 0 else 5))
    names = [f"{'n' * rng.choice((1, 1, 500))}{i}" for i in range(count)]
    inner = _schema(rng, depth + 1)
    return {"type": "object", "properties": dict.fromkeys(names, inner), "required": names[: rng.randint(0, 50)]}


def _wide(rng: random.Random, depth: int) -> Any:
    count, size = rng.choice(((400, 3), (30, 30), (5, 200)))
    return {"oneOf": [{"required": [f"p{i * rng.randint(1, 9)}_{j}" for j in range(size)]} for i in range(count)]}


def _negated(rng: random.Random, depth: int) -> Any:
    return rng.choice(
        (
            {"not": _schema(rng, depth + 1)},
            {"if": _schema(rng, depth + 1), "then": _schema(rng, depth + 1), "else": _schema(rng, depth + 1)},
        )
    )


def _pattern(rng: random.Random) -> str:
    n, m = rng.choice((2, 30, 1000)), rng.choice((2, 100, 1003))
    return rng.choice(
        (
            f"(a{{{n}}}){{{m}}}",
            f"(a|b)*a(a|b){{{n}}}",
            f"([a-z]{{{n}}}|x){{1,{m}}}",
            f"(.|\\n)*[aeiou](.|\\n){{{n}}}",
            "|".join(f"{i}[a-z]*{i * m}" for i in range(n)),
            "(" * n + "a" + ")*" * n,
            r"[^\s\S]",
            f"(a?){{{n}}}a{{{n}}}",
        )
    )
