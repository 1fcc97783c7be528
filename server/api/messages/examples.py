"""Example Messages requests and an example stream for /docs."""

from __future__ import annotations

from typing import Any

from server.api.generation.examples import CITY, PERSON

_QUESTION = {"role": "user", "content": "What is the weather in Bern?"}
_WEATHER = {"name": "get_weather", "description": "Returns the weather in a city.", "input_schema": CITY}

MESSAGES_REQUESTS: dict[str, Any] = {
    "Question": {"max_tokens": 100, "messages": [{"role": "user", "content": "Hello!"}]},
    "Stream": {"max_tokens": 100, "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
    "Tool call": {
        "max_tokens": 200,
        "messages": [_QUESTION],
        "tools": [{**_WEATHER, "strict": True}],
        "tool_choice": {"type": "any"},
    },
    "Tool result": {
        "max_tokens": 100,
        "messages": [
            _QUESTION,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_5f2c", "name": "get_weather", "input": {"city": "Bern"}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "call_5f2c", "content": "12 degrees, rain"}],
            },
        ],
        "tools": [_WEATHER],
    },
    "Structured output": {
        "max_tokens": 200,
        "messages": [{"role": "user", "content": "Ann is 31 years old."}],
        "output_config": {"format": {"type": "json_schema", "schema": PERSON}},
    },
}
MESSAGES_STREAM = (
    "event: content_block_delta\n"
    'data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}\n\n'
)
