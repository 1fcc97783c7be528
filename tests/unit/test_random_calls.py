"""Random calls that a grammar allows can be parsed, and their arguments satisfy the schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grammars import (
    END,
    INTEGER,
    TOKENIZER,
    allowed,
    compiled,
    parsed,
    required,
    tool,
)

VALUES = st.recursive(
    st.sampled_from(
        [
            {"type": "integer", "minimum": -5, "maximum": 50},
            {"type": "string", "maxLength": 5},
            {"type": "boolean"},
            {"type": ["null", "boolean"]},
            {"enum": ["x", 1, None, True]},
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": "^[a-z]{1,4}$"},
            {"$ref": "#/$defs/pair"},
        ]
    ),
    lambda inner: (
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 2}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(
            lambda properties, closed: {
                "type": "object",
                "properties": properties,
                "required": list(properties)[:1],
                "additionalProperties": closed,
            },
            st.dictionaries(st.sampled_from(["a", "b-c", "d e", "é"]), inner, max_size=3),
            st.sampled_from([False, {"type": "integer"}]),
        )
    ),
    max_leaves=5,
)
PAIR = {"type": "object", "properties": {"a": INTEGER, "b": {"type": "boolean"}}, "additionalProperties": False}


@settings(max_examples=60, deadline=None)
@given(
    properties=st.dictionaries(st.sampled_from(["a", "b-c", "d e", "class", "é"]), VALUES, max_size=4),
    needed=st.integers(0, 4),
    seed=st.integers(0, 2**32),
)
def test_calls_drawn_at_random_parse_and_validate(properties: dict[str, Any], needed: int, seed: int) -> None:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:needed],
        "additionalProperties": False,
        "$defs": {"pair": PAIR},
    }
    constraint = compiled(required(schema)).start()
    random = np.random.default_rng(seed)
    text = b""
    for _ in range(600):
        token = int(random.choice(np.flatnonzero(allowed(constraint))))
        if token == END:
            break
        constraint.commit(token)
        text += TOKENIZER.token_bytes(token)
    else:
        return  # no end was drawn within the limit
    for call in parsed([tool(schema)], text.decode()):
        jsonschema.Draft202012Validator(schema).validate(json.loads(call.arguments))
