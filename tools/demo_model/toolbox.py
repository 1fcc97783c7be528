"""The tools in the demo model's chats, with questions, results and answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from words import LANGUAGES, identifier, number, person, phrase, place

Arguments = dict[str, Any]


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


CONDITIONS = ("sunny", "cloudy", "rainy", "windy", "snowing", "foggy", "clear")

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
