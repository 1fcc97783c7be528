"""instructor: classes out of chats, by tools, by JSON schema and by JSON mode, whole and in a stream."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from tests.clients.story import (
    ADA,
    ERROR_CASES,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    PERSON_AS_TOOL,
    PERSON_IN_STEPS,
    WEATHER,
    WEATHER_REPORT,
    Person,
    user,
    weather,
)
from tests.serving import Server

instructor = pytest.importorskip("instructor", reason="not installed (requirements/clients.txt)")
exceptions = pytest.importorskip("instructor.core.exceptions")
openai = pytest.importorskip("openai")


class get_weather(BaseModel):
    """The weather of the next days."""

    city: str
    days: int


def client(server: Server, mode: str = "TOOLS", key: str = KEY) -> Any:
    sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    return instructor.from_openai(sdk, mode=instructor.Mode[mode])


def ask(asked: Any, content: str, kind: Any = Person, **options: Any) -> Any:
    given = {"model": MODEL, "max_retries": 0} | options
    return asked.chat.completions.create(response_model=kind, messages=user(content), **given)


MODES = [("TOOLS", PERSON_AS_TOOL), ("JSON", PERSON), ("JSON_SCHEMA", PERSON)]


@pytest.mark.parametrize(("mode", "question"), MODES)
def test_the_class_is_given(server: Server, mode: str, question: str) -> None:
    assert ask(client(server, mode), question).model_dump() == ADA.model_dump()


async def test_the_async_client_gives_the_class(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as sdk:
        person = await ask(instructor.from_openai(sdk), PERSON_AS_TOOL)
    assert isinstance(person, Person)
    assert person.model_dump() == ADA.model_dump()


@pytest.mark.parametrize(("mode", "question"), [("TOOLS", PERSON_IN_STEPS), ("JSON_SCHEMA", PERSON)])
def test_a_stream_fills_the_class_step_by_step(server: Server, mode: str, question: str) -> None:
    options: Any = {"model": MODEL, "messages": user(question), "max_retries": 0}
    *begun, last = client(server, mode).chat.completions.create_partial(response_model=Person, **options)
    assert begun
    assert last.model_dump() == ADA.model_dump()


def test_plain_chats_and_streams_pass_through(server: Server) -> None:
    assert ask(client(server), HELLO, None).choices[0].message.content == GREETING
    chunks = ask(client(server), HELLO, None, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == GREETING


def test_a_tools_result_is_reported(server: Server) -> None:
    asked, answer = client(server).chat.completions.create_with_completion(
        response_model=get_weather, model=MODEL, messages=user(WEATHER), max_retries=0
    )
    message = answer.choices[0].message.model_dump()
    (call,) = message["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": weather(asked.city, asked.days)}
    history = [*user(WEATHER), message, result]
    answer = client(server).chat.completions.create(response_model=None, model=MODEL, messages=history)
    assert answer.choices[0].message.content == WEATHER_REPORT


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_random_weights_are_held_to_the_class(random_server: Server, mode: str) -> None:
    options: Any = {"model": "random", "temperature": 1.5, "max_tokens": 1000, "seed": 1}
    options |= {"parallel_tool_calls": False} if mode == "TOOLS" else {}
    assert isinstance(ask(client(random_server, mode), HELLO, **options), Person)


def test_an_answer_that_is_cut_is_its_incomplete_output_error(random_server: Server) -> None:
    with pytest.raises(exceptions.IncompleteOutputException):
        ask(client(random_server), HELLO, model="random", max_tokens=2)


@pytest.mark.parametrize(("options", "question", "status", "code"), ERROR_CASES)
def test_an_error_has_the_sdks_as_its_cause(
    server: Server, options: dict[str, str], question: str, status: int, code: str
) -> None:
    with pytest.raises(exceptions.InstructorRetryException) as caught:
        ask(client(server, key=options.get("key", KEY)), question, model=options.get("model", MODEL))
    error = caught.value.__cause__
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, error.code) == (status, code)
