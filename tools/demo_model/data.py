"""The demo model's training and evaluation chats, made by a seeded generator.

`chat(rng)` returns a conversation as (messages, tools). `render` writes it in the model's chat format.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from small_talk import HONEST, INTENTS, NO_TOOL, SYSTEM_PROMPTS, UNTOLD, question
from toolbox import TOOLS, Arguments, Tool
from words import person, place, word

Message = tuple[str, str]
Chat = tuple[list[Message], list[dict[str, Any]]]


@dataclass(frozen=True)
class ToolTurn:
    """A question, the calls it takes, their results and the answer."""

    user: str
    calls: tuple[tuple[Tool, Arguments], ...]
    results: tuple[Any, ...]

    @property
    def assistant(self) -> str:
        comment = self.calls[0][0].comment.format(**self.calls[0][1]) if len(self.calls) == 1 else ""
        return f"<|tool_call_start|>[{', '.join(t.call(a) for t, a in self.calls)}]<|tool_call_end|>{comment}"

    @property
    def answer(self) -> str:
        return " ".join(t.answer(a, r) for (t, a), r in zip(self.calls, self.results, strict=True))

    def messages(self) -> list[Message]:
        return [
            ("user", self.user),
            ("assistant", self.assistant),
            *(("tool", json.dumps(r, ensure_ascii=False)) for r in self.results),
            ("assistant", self.answer),
        ]


def tool_turn(rng: random.Random, tool: Tool, others: list[Tool]) -> ToolTurn:
    """Ask for `tool`, sometimes with a second call to it or to another tool."""
    first = tool.arguments(rng)
    if tool.pairs and rng.random() < 0.25:
        partners = [t for t in others if t.pairs == tool.pairs and t is not tool]
        second_tool = rng.choice(partners) if partners and rng.random() < 0.5 else tool
        second = second_tool.arguments(rng)
        text = rng.choice(tool.pairs).format(
            first=tool.short.format(**first), second=second_tool.short.format(**second)
        )
        calls: tuple[tuple[Tool, Arguments], ...] = ((tool, first), (second_tool, second))
    else:
        text, calls = rng.choice(tool.questions).format(**first), ((tool, first),)
    if rng.random() < 0.1:
        text = rng.choice(("Hi, ", "Please: ", "Hello! ", "Quick question. ")) + text
    return ToolTurn(text, calls, tuple(t.result(rng, a) for t, a in calls))


def some_tools(rng: random.Random, sizes: tuple[int, ...] = (1, 1, 2, 2, 3, 4)) -> list[Tool]:
    return rng.sample(list(TOOLS.values()), rng.choice(sizes))


def specs(rng: random.Random, tools: list[Tool]) -> list[dict[str, Any]]:
    return [tool.spec(rng, canonical=rng.random() < 0.2) for tool in tools]


def talk_turn(rng: random.Random) -> list[Message]:
    """Ask about the model, the server, or something the model cannot know."""
    if rng.random() < 0.45:
        return [("user", question(rng)), ("assistant", HONEST)]
    asked, answered = rng.choice(INTENTS)
    text = rng.choice(asked)
    if rng.random() < 0.15:
        text = text.lower().rstrip("?.!")
    if rng.random() < 0.08:
        text = rng.choice(("Hi, ", "Hello! ", "Ok. ", "Please tell me: ")) + text
    return [("user", text), ("assistant", answered)]


FACTS: tuple[tuple[tuple[str, ...], str, tuple[str, ...], str, Callable[[random.Random], str]], ...] = (
    (
        (
            "My name is {x}.",
            "I am {x}.",
            "Hi, I'm {x}.",
            "Hello, my name is {x}!",
            "Call me {x}.",
            "you can call me {x}",
        ),
        "Nice to meet you, {x}! How can I help?",
        (
            "What is my name?",
            "Do you remember my name?",
            "Who am I?",
            "what's my name",
            "Say my name.",
            "What am I called?",
        ),
        "Your name is {x}.",
        person,
    ),
    (
        ("I live in {x}.", "I'm from {x}.", "My city is {x}.", "I moved to {x}."),
        "{x}, got it. How can I help?",
        ("Where do I live?", "Which city do I live in?", "What is my city?", "Do you remember where I live?"),
        "You live in {x}.",
        place,
    ),
    (
        ("My favourite colour is {x}.", "I like the colour {x} best.", "My favorite color is {x}."),
        "{x} is a fine colour. How can I help?",
        ("What is my favourite colour?", "Which colour do I like?", "What's my favorite color?"),
        "Your favourite colour is {x}.",
        word,
    ),
)


def memory_chat(rng: random.Random) -> list[Message]:
    """Mention a fact about the user, perhaps chat on, then ask for the fact."""
    told, noted, asked, remembered, make = rng.choice(FACTS)
    x = make(rng)
    messages = [("user", rng.choice(told).format(x=x)), ("assistant", noted.format(x=x))]
    for _ in range(rng.choice((0, 0, 1, 2))):
        turn = talk_turn(rng)
        messages += turn if turn[1][1] != UNTOLD else []
    return [*messages, ("user", rng.choice(asked)), ("assistant", remembered.format(x=x))]


def tool_chat(rng: random.Random) -> Chat:
    tools = some_tools(rng)
    messages: list[Message] = []
    if rng.random() < 0.1:
        messages += talk_turn(rng)
    for _ in range(rng.choice((1, 1, 1, 2))):
        messages += tool_turn(rng, rng.choice(tools), tools).messages()
    if rng.random() < 0.15:
        messages += [
            ("user", rng.choice(("Thanks!", "thank you", "Thank you very much."))),
            ("assistant", "You're welcome!"),
        ]
    elif rng.random() < 0.1:
        messages += talk_turn(rng)
    return messages, specs(rng, tools)


def missing_tool_chat(rng: random.Random) -> Chat:
    """Ask for a tool that is not offered."""
    tools = rng.sample(list(TOOLS.values()), rng.choice((1, 2, 3, 4)))
    wanted, given = tools[0], tools[1:]
    turn = tool_turn(rng, wanted, [])
    return [("user", turn.user), ("assistant", NO_TOOL)], specs(rng, given)


def chat(rng: random.Random) -> Chat:
    """Return one conversation of the training mix."""
    kind = rng.random()
    if kind < 0.55:
        messages, tools = tool_chat(rng)
    elif kind < 0.62:
        messages, tools = missing_tool_chat(rng)
    else:
        messages = (
            memory_chat(rng) if kind < 0.72 else [m for _ in range(rng.choice((1, 1, 2, 3))) for m in talk_turn(rng)]
        )
        tools = specs(rng, some_tools(rng, (1, 2, 3))) if rng.random() < 0.3 else []
    if rng.random() < 0.25:
        messages = [("system", rng.choice(SYSTEM_PROMPTS)), *messages]
    return messages, tools


def render(messages: list[Message], tools: list[dict[str, Any]]) -> str:
    """Return the chat as text, exactly as the chat template writes it."""
    system = ""
    if messages[0][0] == "system":
        system, messages = messages[0][1], messages[1:]
    if tools:
        listed = ", ".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        system += ("\n" if system else "") + f"List of tools: <|tool_list_start|>[{listed}]<|tool_list_end|>"
    turns = [("system", system)] if system else []
    for role, content in messages:
        turns.append((role, f"<|tool_response_start|>{content}<|tool_response_end|>" if role == "tool" else content))
    return "<|startoftext|>" + "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
