"""Example response requests and an example stream for /docs."""

from __future__ import annotations

from typing import Any

from server.api.generation.examples import CITY, PERSON

_WEATHER = {"type": "function", "name": "get_weather", "description": "Returns the weather in a city."}
_QUESTION = "What is the weather in Bern?"

RESPONSE_REQUESTS: dict[str, Any] = {
    "Question": {"input": "Hello!", "max_output_tokens": 100},
    "Stream": {"input": "Hello!", "stream": True, "max_output_tokens": 100},
    "Tool call": {
        "input": _QUESTION,
        "tools": [{**_WEATHER, "parameters": CITY, "strict": True}],
        "tool_choice": "required",
        "max_output_tokens": 200,
    },
    "Tool result": {
        "input": [
            {"role": "user", "content": _QUESTION},
            {"type": "function_call", "call_id": "call_5f2c", "name": "get_weather", "arguments": '{"city": "Bern"}'},
            {"type": "function_call_output", "call_id": "call_5f2c", "output": "12 degrees, rain"},
        ],
        "max_output_tokens": 100,
    },
    "Structured output": {
        "input": "Ann is 31 years old.",
        "text": {"format": {"type": "json_schema", "name": "person", "schema": PERSON}},
        "max_output_tokens": 200,
    },
}
RESPONSE_STREAM = (
    "event: response.output_text.delta\n"
    'data: {"type": "response.output_text.delta", "sequence_number": 4, "item_id": "msg_5f2c_0", "output_index": 0, '
    '"content_index": 0, "delta": "Hello", "logprobs": []}\n\n'
)
