"""What the scripted model answers, and the tool that it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
CALL = '<|tool_call_start|>[get_weather(city="Oslo", days=3)]<|tool_call_end|>'
SCRIPTS = [
    ("hello", "Hello there!"),
    ("smile", "So: 😀 ok"),
    ("count", "one two three four five six"),
    ("weather", f"{CALL}Let me look."),
    ("both", '<|tool_call_start|>[get_weather(city="Oslo"), get_weather(city="Rome")]<|tool_call_end|>'),
    ("broken", "<|tool_call_start|>[get_weather(city=]<|tool_call_end|> sorry"),
    ("unknown", "<|tool_call_start|>[get_time()]<|tool_call_end|>"),
    ('<|tool_response_start|>{"temperature": 21}<|tool_response_end|>', "It is 21 degrees.", "tool"),
    ("silent", ""),
    ("specials", "a<|fim_pre|>b<|tool_list_start|>c"),
]
Ask = Callable[..., ChatCompletion]
Stream = Callable[..., list[ChatCompletionChunk]]


def joined(chunks: list[ChatCompletionChunk]) -> tuple[str, list[tuple[str, str]], str | None]:
    """Return the content, the calls and the finish_reason of a stream of one choice."""
    content, calls, finish = "", {}, None
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            name, arguments = calls.get(call.index, ("", ""))
            assert call.function is not None
            calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
        finish = choice.finish_reason or finish
    assert sorted(calls) == list(range(len(calls)))
    return content, list(calls.values()), finish
