"""What the scripted models of the tests of responses answer, and the tools that they call."""

from __future__ import annotations

import json
from typing import Any

MODEL = "scripted"
GREETING = "Hello there! 😀"
LONG = "word " * 600
COMMAND = 'ls "a\\b"\n'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {"type": "function", "name": "get_weather", "parameters": CITY}
SHELL: dict[str, Any] = {"type": "custom", "name": "shell", "description": "Runs a command."}
CRM: dict[str, Any] = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [WEATHER, SHELL]}


def calls(*written: str) -> str:
    return f"<|tool_call_start|>[{', '.join(written)}]<|tool_call_end|>"


def result(text: str) -> str:
    return f"<|tool_response_start|>{text}<|tool_response_end|>"


SCRIPTS = [
    ("hello", GREETING),
    ("thanks", "You are welcome."),
    ("tell me all", LONG),
    ("weather", "Let me see." + calls('get_weather(city="Oslo")')),
    ("cities", calls('get_weather(city="Oslo")', 'get_weather(city="Rome")')),
    (result("21 degrees"), "It is warm.", "tool"),
    ("run", calls(f"shell(input={json.dumps(COMMAND)})")),
    ("customers", calls('crm.get_weather(city="Oslo")', 'crm.shell(input="ls")', 'get_weather(city="Rome")')),
    ("person", '{"name": "Ada", "age": 36}'),
    ("silence", ""),
]


def without_ids(items: Any) -> Any:
    """Return items as JSON without the IDs, which are random, and without what the SDK's helpers add."""
    if isinstance(items, list):
        return [without_ids(item if isinstance(item, (dict, list)) else item.to_dict()) for item in items]
    left_out = ("id", "call_id", "parsed", "parsed_arguments")
    return {
        name: without_ids(value) if name == "content" else value
        for name, value in items.items()
        if name not in left_out
    }
