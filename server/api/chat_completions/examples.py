"""Example chat requests and an example stream for /docs."""

from __future__ import annotations

from typing import Any

from server.api.generation.examples import CITY, PERSON

_QUESTION = [{"role": "user", "content": "What is the weather in Bern?"}]
_WEATHER = {"name": "get_weather", "description": "Returns the weather in a city.", "parameters": CITY, "strict": True}

CHAT_REQUESTS: dict[str, Any] = {
    "Question": {"messages": [{"role": "user", "content": "Hello!"}], "max_completion_tokens": 100},
    "Stream": {
        "messages": [{"role": "user", "content": "Hello!"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 100,
    },
    "Tool call": {
        "messages": _QUESTION,
        "tools": [{"type": "function", "function": _WEATHER}],
        "tool_choice": "required",
        "max_completion_tokens": 200,
    },
    "Tool result": {
        "messages": [
            *_QUESTION,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_5f2c",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_5f2c", "content": "12 degrees, rain"},
        ],
        "max_completion_tokens": 100,
    },
    "Structured output": {
        "messages": [{"role": "user", "content": "Ann is 31 years old."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
        "max_completion_tokens": 200,
    },
}

_CHUNK = '{"id": "chatcmpl-0f3a", "object": "chat.completion.chunk", "created": 1767225600, "model": "lfm2-demo", '
CHAT_STREAM = (
    f'data: {_CHUNK}"system_fingerprint": "fp_1c0ffee", "choices": '
    '[{"index": 0, "delta": {"content": "Hello"}, "logprobs": null, "finish_reason": null}]}\n\n'
    "data: [DONE]\n\n"
)
