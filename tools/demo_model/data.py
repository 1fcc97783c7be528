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

Message = tuple[str, str]
Chat = tuple[list[Message], list[dict[str, Any]]]
Arguments = dict[str, Any]

SYLLABLES = (
    "ba be bi bo bu da de di do du fa fe ga go ha he ja jo ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu pa "
    "pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we ya yo za ze zo an en in on un ar er or al el "
    "il ol as es is os tha sha cha bra gri plo stu mer lin ton son ville burg stein ford"
).split()
PLACES = (
    "Paris London Berlin Madrid Rome Tokyo Oslo Lima Cairo Vienna Boston Dublin Prague Athens Lisbon Warsaw Sydney Toronto "
    "Chicago Seoul Delhi Zurich Geneva Hamburg Porto Nice Milan Kyoto Havana Denver"
).split()
PLACES += ["New York", "San Francisco", "Los Angeles", "Cape Town", "Hong Kong", "Rio de Janeiro", "Tel Aviv"]
NAMES = (
    "Anna Ben Clara David Emma Felix Grace Hugo Ivan Julia Karl Laura Maria Nora Oscar Paul Rosa Sam Tina Viktor Maya Liam "
    "Noah Olivia Sofia Lucas Ella Jonas Amir Yuki Chen Priya Omar Leila Alice Bob"
).split()
WORDS = (
    "red blue green small large old new fast quiet warm wooden steel paper cotton garden kitchen office winter summer lamp "
    "chair table phone book bag shoes jacket bottle clock camera bike tent pen mug desk mouse keyboard screen cable charger "
    "coffee tea bread cheese apple meeting report lunch train ticket house river music dog cat tree letter door key I you "
    "we will be late at home see tomorrow today please call me back the dinner is ready project done good luck happy birthday"
).split()
LANGUAGES = "French German Spanish Italian Japanese Korean Chinese Arabic Polish Greek Turkish Dutch".split()


def word(rng: random.Random) -> str:
    """Return a made-up word, so that the model learns to copy unseen words."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))


def place(rng: random.Random) -> str:
    if rng.random() < 0.25:
        return rng.choice(PLACES)
    words = [word(rng).capitalize() for _ in range(rng.choice((1, 1, 1, 2)))]
    return " ".join(words)


def person(rng: random.Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.25 else word(rng).capitalize()


def phrase(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.choice(WORDS) if rng.random() < 0.6 else word(rng) for _ in range(rng.randint(low, high)))


def identifier(rng: random.Random) -> str:
    """Return an id such as 12345, B482 or KX-9041."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
    return rng.choice((digits, digits, letters + digits, f"{letters}-{digits}"))


def number(rng: random.Random) -> int:
    return rng.choice((rng.randint(0, 20), rng.randint(0, 999), rng.randint(0, 99999), -rng.randint(1, 99)))


@dataclass(frozen=True)
class Tool:
    """A tool with its descriptions, questions for it, and answers from its results."""

    name: str
    descriptions: tuple[str, ...]
    properties: dict[str, tuple[str, str]]  # name -> (JSON type, description)
    arguments: Callable[[random.Random], Arguments]
    questions: tuple[str, ...]
    pairs: tuple[str, ...]  # questions for two calls; {first} and {second} are `short` of each
    short: str
    result: Callable[[random.Random, Arguments], Any]
    answer: Callable[[Arguments, Any], str]
    comment: str = ""  # text after the call

    def spec(self, rng: random.Random, canonical: bool = False) -> dict[str, Any]:
        """Return the tool as the model sees it, in its first wording if `canonical`."""
        described = canonical or rng.random() < 0.6
        properties: dict[str, Any] = {}
        for name, (kind, description) in self.properties.items():
            properties[name] = {"type": kind} | ({"description": description} if described else {})
        parameters: dict[str, Any] = {"type": "object", "properties": properties, "required": list(properties)}
        if not canonical and rng.random() < 0.1:
            parameters["additionalProperties"] = False
        description = self.descriptions[0] if canonical else rng.choice(self.descriptions)
        return {"name": self.name, "description": description, "parameters": parameters}

    def call(self, arguments: Arguments) -> str:
        return f"{self.name}({', '.join(f'{k}={json.dumps(v, ensure_ascii=False)}' for k, v in arguments.items())})"


STATUSES = ("Interview Scheduled", "Hired", "Rejected", "Waiting", "Offer Sent", "On Hold", "Phone Screen")
POSITIONS = (
    "Clinical Research Associate", "Data Engineer", "Nurse", "Sales Manager", "Software Developer", "Accountant",
    "Product Designer", "Teacher", "Research Assistant",
)  # fmt: skip


def candidate_result(rng: random.Random, arguments: Arguments) -> list[dict[str, str]]:
    date = f"20{rng.randint(20, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    status, position = rng.choice(STATUSES), rng.choice(POSITIONS)
    return [{"candidate_id": arguments["candidate_id"], "status": status, "position": position, "date": date}]


def candidate_answer(arguments: Arguments, result: Any) -> str:
    row = result[0]
    article = "an interview date" if row["status"] == "Interview Scheduled" else "a date"
    return (
        f'The candidate with ID {row["candidate_id"]} is currently in the "{row["status"]}" stage for the position of '
        f"{row['position']}, with {article} set for {row['date']}."
    )


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "get_candidate_status",
            (
                "Retrieves the current status of a candidate in the recruitment process",
                "Get the status of a candidate",
                "Looks up a job candidate by ID",
            ),
            {"candidate_id": ("string", "Unique identifier for the candidate")},
            lambda rng: {"candidate_id": identifier(rng)},
            (
                "What is the current status of candidate ID {candidate_id}?",
                "Status of candidate {candidate_id}?",
                "Can you check candidate {candidate_id} for me?",
                "Where is candidate {candidate_id} in the process?",
                "Please look up the candidate with ID {candidate_id}.",
                "candidate {candidate_id} status",
            ),
            (
                "What is the status of candidates {first} and {second}?",
                "Check candidate {first} and candidate {second}.",
                "Look up candidates {first} and {second}, please.",
            ),
            "{candidate_id}",
            candidate_result,
            candidate_answer,
            "Checking the current status of candidate ID {candidate_id}.",
        ),
        Tool(
            "get_weather",
            (
                "Get the current weather in a city",
                "Returns the weather for a city",
                "Current weather by city name",
                "Weather",
            ),
            {"city": ("string", "Name of the city")},
            lambda rng: {"city": place(rng)},
            (
                "What's the weather in {city}?",
                "What is the weather like in {city}?",
                "How is the weather in {city} today?",
                "weather {city}",
                "Is it cold in {city}?",
                "Tell me the weather in {city}.",
                "Do I need a coat in {city} today?",
                "Weather in {city} please",
            ),
            (
                "What's the weather in {first} and {second}?",
                "What is the weather in {first} and in {second}?",
                "Compare the weather in {first} and {second}.",
                "weather {first} and {second}",
            ),
            "{city}",
            lambda rng, a: rng.choice(
                (
                    {"city": a["city"], "temperature": rng.randint(-15, 39), "condition": rng.choice(CONDITIONS)},
                    {"temperature": rng.randint(-15, 39), "condition": rng.choice(CONDITIONS)},
                )
            ),
            lambda a, r: f"It is {r['temperature']} degrees and {r['condition']} in {a['city']}.",
        ),
        Tool(
            "add",
            ("Add two numbers", "Adds two integers and returns the sum", "Sum of a and b"),
            {"a": ("integer", "The first number"), "b": ("integer", "The second number")},
            lambda rng: {"a": number(rng), "b": number(rng)},
            (
                "What is {a} plus {b}?",
                "Add {a} and {b}.",
                "{a} + {b}",
                "What is the sum of {a} and {b}?",
                "Please add {a} to {b}.",
                "How much is {a} + {b}?",
                "What is {a} + {b}?",
            ),
            ("What is {first}, and what is {second}?", "Compute {first} and {second}."),
            "{a} + {b}",
            lambda rng, a: {"result": a["a"] + a["b"]},
            lambda a, r: f"{a['a']} plus {a['b']} is {r['result']}.",
        ),
        Tool(
            "multiply",
            ("Multiply two numbers", "Multiplies two integers and returns the product"),
            {"a": ("integer", "The first factor"), "b": ("integer", "The second factor")},
            lambda rng: {"a": number(rng), "b": number(rng)},
            (
                "What is {a} times {b}?",
                "Multiply {a} by {b}.",
                "{a} * {b}",
                "What is the product of {a} and {b}?",
                "How much is {a} times {b}?",
            ),
            ("What is {first}, and what is {second}?", "Compute {first} and {second}."),
            "{a} * {b}",
            lambda rng, a: {"result": a["a"] * a["b"]},
            lambda a, r: f"{a['a']} times {a['b']} is {r['result']}.",
        ),
        Tool(
            "send_message",
            ("Send a message to a person", "Sends a text message", "Message someone by name"),
            {"to": ("string", "Who gets the message"), "text": ("string", "The text of the message")},
            lambda rng: {"to": person(rng), "text": phrase(rng, 1, 4)},
            (
                'Send "{text}" to {to}.',
                'Write to {to}: "{text}"',
                'Tell {to} "{text}".',
                'Send a message to {to} saying "{text}"',
                "Message {to}: {text}",
            ),
            (),
            "",
            lambda rng, a: rng.choice(({"sent": True}, {"status": "sent"}, {"sent": True, "to": a["to"]})),
            lambda a, r: f"Your message to {a['to']} has been sent.",
        ),
        Tool(
            "set_timer",
            ("Set a timer", "Starts a timer for some minutes", "Timer in minutes"),
            {"minutes": ("integer", "How long, in minutes")},
            lambda rng: {"minutes": rng.randint(1, 240)},
            (
                "Set a timer for {minutes} minutes.",
                "Timer {minutes} minutes",
                "Remind me in {minutes} minutes.",
                "Start a {minutes} minute timer, please.",
                "Wake me in {minutes} minutes.",
            ),
            ("Set timers for {first} and {second} minutes.",),
            "{minutes}",
            lambda rng, a: rng.choice(({"ok": True}, {"timer": "running", "minutes": a["minutes"]})),
            lambda a, r: f"The timer is set for {a['minutes']} minutes.",
        ),
        Tool(
            "get_order",
            ("Get an order by its ID", "Looks up the state of an order", "Find an order"),
            {"order_id": ("string", "The order's ID")},
            lambda rng: {"order_id": identifier(rng)},
            (
                "Where is my order {order_id}?",
                "What is the state of order {order_id}?",
                "order {order_id}",
                "Has order {order_id} been shipped?",
                "Track order {order_id} please.",
                "Can you find order {order_id}?",
            ),
            ("Where are my orders {first} and {second}?", "Track orders {first} and {second}."),
            "{order_id}",
            lambda rng, a: {
                "order_id": a["order_id"],
                "state": rng.choice(("shipped", "packed", "delivered", "lost", "paid")),
            },
            lambda a, r: f"Order {a['order_id']} is {r['state']}.",
        ),
        Tool(
            "search_products",
            ("Search the product catalogue", "Find products in the shop", "Product search"),
            {"query": ("string", "What to look for"), "limit": ("integer", "How many results at most")},
            lambda rng: {"query": phrase(rng, 1, 3), "limit": rng.randint(1, 50)},
            (
                "Find {limit} products for {query}.",
                'Search for "{query}", {limit} results.',
                'Show me {limit} results for "{query}".',
                "I want to see {limit} offers for {query}",
            ),
            (),
            "",
            lambda rng, a: {"found": rng.randint(0, a["limit"])},
            lambda a, r: f'I found {r["found"]} products for "{a["query"]}".',
        ),
        Tool(
            "translate",
            ("Translate a text", "Translates text to another language"),
            {"text": ("string", "The text to translate"), "language": ("string", "The language to translate to")},
            lambda rng: {"text": phrase(rng, 1, 4), "language": rng.choice(LANGUAGES)},
            (
                'Translate "{text}" to {language}.',
                'How do you say "{text}" in {language}?',
                'What is "{text}" in {language}?',
                'Translate "{text}" into {language} please.',
            ),
            (),
            "",
            lambda rng, a: {"translation": phrase(rng, 1, 3)},
            lambda a, r: f'In {a["language"]} it is "{r["translation"]}".',
        ),
    )
}
CONDITIONS = ("sunny", "cloudy", "rainy", "windy", "snowing", "foggy", "clear")


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
    """Ask for `tool`, sometimes with a second call of it or of another tool."""
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
