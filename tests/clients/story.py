"""The messages of the clients' tests, the scripted model's answers, and its server's key."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

MODEL = "scripted"
KEY = "a-key-for-the-tests"
TOO_LONG = "word " * 5000  # more than the 4,096 tokens that the model has positions for

HELLO, GREETING = "hello", "Hello there! 😀"
WEATHER, WEATHER_REPORT = "weather", "It is 21 degrees in Oslo."
CITIES, CITIES_REPORT = "cities", "It is 25 degrees in Rome."
PERSON = "person"
PERSON_JSON = '{"name": "Ada", "age": 36}'
PERSON_AS_TOOL, PERSON_AS_RESULT = "person as a tool", "person as a result"
PERSON_IN_STEPS = "person in steps"


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


class Choice(BaseModel):
    """A choice. Its schema has no bounds, which Anthropic's clients would leave out of it."""

    color: Literal["red", "green"]
    certain: bool


ADA = Person(name="Ada", age=36)
TOOL_CASES = [(WEATHER, WEATHER_REPORT), (CITIES, CITIES_REPORT)]
"""Questions that need one and two calls, and the answers after their results."""
ERROR_CASES = [
    ({"key": "wrong"}, HELLO, 401, "invalid_api_key"),
    ({"model": "gpt-9"}, HELLO, 404, "model_not_found"),
    ({}, TOO_LONG, 400, "context_length_exceeded"),
]
"""Options of a client, a question, and the status and code of the error."""
SDK_ERRORS = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError"}
"""Names of the OpenAI SDKs' exceptions by status."""


def result(text: str) -> str:
    """A tool's result as it stands in the prompt."""
    return f"<|tool_response_start|>{text}<|tool_response_end|>"


def calls(*written: str) -> str:
    """Calls as the model writes them."""
    return f"<|tool_call_start|>[{', '.join(written)}]<|tool_call_end|>"


SCRIPTS = [
    (HELLO, GREETING),
    (WEATHER, calls('get_weather(city="Oslo", days=3)')),
    (result("Oslo, 3 days: 21"), WEATHER_REPORT, "tool"),
    (CITIES, calls('get_weather(city="Oslo", days=1)', 'get_weather(city="Rome", days=2)')),
    (result("Rome, 2 days: 25"), CITIES_REPORT, "tool"),
    (PERSON, PERSON_JSON),
    (PERSON_AS_TOOL, calls('Person(name="Ada", age=36)')),
    (PERSON_IN_STEPS, calls('PartialPerson(name="Ada", age=36)')),
    (PERSON_AS_RESULT, calls('final_result(name="Ada", age=36)')),
]


def user(content: str) -> list[Any]:
    """Return a chat of one user message."""
    return [{"role": "user", "content": content}]


def weather(city: str, days: int) -> str:
    """What the tool `get_weather` gives."""
    return f"{city}, {days} days: {21 if city == 'Oslo' else 25}"
