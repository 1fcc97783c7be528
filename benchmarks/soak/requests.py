"""Random chats of many kinds and lengths."""

from __future__ import annotations

import random
from typing import Any

WORDS = "river stone lamp seven quiet garden paper winter signal copper".split()
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}},
    "required": ["mood"],
    "additionalProperties": False,
}


def text(words: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def chat(words: int, max_tokens: int, rng: random.Random, **more: Any) -> dict[str, Any]:
    """Return a streamed chat that ends at `max_tokens` only."""
    messages = [{"role": "user", "content": text(words, rng)}]
    return {"messages": messages, "max_tokens": max_tokens, "stream": True, "ignore_eos": True, **more}


def mixed(rng: random.Random) -> dict[str, Any]:
    """Return a random chat: short or long, streamed or whole, plain, tool or schema."""
    kind = rng.randrange(8)
    if kind == 0:
        return chat(rng.randrange(300, 900), rng.randrange(1, 40), rng)
    if kind == 1:
        question = {"role": "user", "content": f"What is the weather in {rng.choice(WORDS).title()}?"}
        return {
            "messages": [question],
            "tools": [WEATHER],
            "tool_choice": "required",
            "stream": True,
            "max_tokens": 200,
        }
    if kind == 2:
        form = {"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA}}
        return {"messages": [{"role": "user", "content": text(8, rng)}], "response_format": form, "max_tokens": 200}
    if kind == 3:
        return {"messages": [{"role": "user", "content": "What are you?"}], "stream": True, "max_tokens": 200}
    if kind == 4:
        return {"messages": [{"role": "user", "content": "How do I stream?"}], "max_tokens": 40, "temperature": 1.2}
    shared = {"role": "system", "content": "You are lfm-serve's own model, small and honest. " * 8}
    turn = chat(rng.randrange(3, 40), rng.randrange(1, 160), rng)
    return turn | {"messages": [shared, *turn["messages"]]}
