"""The OpenAI Agents SDK on responses, its default, and on chat completions: runs, streams, tools, an output type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.story import (
    ADA,
    ERROR_CASES,
    GREETING,
    HELLO,
    KEY,
    MODEL,
    PERSON,
    SDK_ERRORS,
    TOOL_CASES,
    Person,
    weather,
)
from tests.scraping import one_cancelled
from tests.serving import Server

agents = pytest.importorskip("agents", reason="openai-agents is not installed (requirements/clients.txt)")
openai = pytest.importorskip("openai")


@pytest.fixture(params=["OpenAIResponsesModel", "OpenAIChatCompletionsModel"])
def agent(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that makes an agent with one of the SDK's model classes."""

    def make(server: Server, model: str = MODEL, key: str = KEY, **options: Any) -> Any:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        chat = getattr(agents, request.param)(model, openai_client=client)
        return agents.Agent(name="helper", model=chat, **options)

    return make


def weather_tool() -> Any:
    return agents.function_tool(weather, name_override="get_weather")


async def test_a_chat_is_answered(agent: Any, server: Server) -> None:
    answer = await agents.Runner.run(agent(server), HELLO)
    assert answer.final_output == GREETING


async def test_a_stream_gives_the_answer(agent: Any, server: Server) -> None:
    run = agents.Runner.run_streamed(agent(server), HELLO)
    events = [event.data async for event in run.stream_events() if event.type == "raw_response_event"]
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(pieces) > 1
    assert "".join(pieces) == run.final_output == GREETING


async def test_a_thinking_model_is_answered_in_turns(agent: Any, thinking_server: Server) -> None:
    answer = await agents.Runner.run(agent(thinking_server), HELLO)
    assert answer.final_output == GREETING
    again = [*answer.to_input_list(), {"role": "user", "content": HELLO}]
    assert (await agents.Runner.run(agent(thinking_server), again)).final_output == GREETING


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("question", "report"), TOOL_CASES)
async def test_tools_are_called_and_their_results_reported(
    agent: Any, server: Server, question: str, report: str, stream: bool
) -> None:
    asked = agent(server, tools=[weather_tool()])
    if stream:
        run: Any = agents.Runner.run_streamed(asked, question)
        async for _ in run.stream_events():
            pass
    else:
        run = await agents.Runner.run(asked, question)
    assert run.final_output == report


async def test_the_output_type_is_given(agent: Any, server: Server) -> None:
    answer = await agents.Runner.run(agent(server, output_type=Person), PERSON)
    assert answer.final_output == ADA


@pytest.mark.parametrize("seed", range(3))
async def test_random_weights_are_held_to_the_output_type(agent: Any, random_server: Server, seed: int) -> None:
    settings = agents.ModelSettings(temperature=1.5, max_tokens=1000, extra_body={"seed": seed})
    asked = agent(random_server, "random", output_type=Person, model_settings=settings)
    assert isinstance((await agents.Runner.run(asked, HELLO)).final_output, Person)


async def test_a_run_that_is_cancelled_ends_on_the_server(agent: Any, random_server: Server) -> None:
    settings = agents.ModelSettings(max_tokens=3000, extra_body={"ignore_eos": True})
    asked = agent(random_server, "random", model_settings=settings)
    responses = isinstance(asked.model, agents.OpenAIResponsesModel)
    with one_cancelled(random_server, "/v1/responses" if responses else "/v1/chat/completions"):
        run = agents.Runner.run_streamed(asked, HELLO)
        async for event in run.stream_events():
            if event.type == "raw_response_event":
                run.cancel()


@pytest.mark.parametrize(("options", "question", "status", "code"), ERROR_CASES)
async def test_an_error_is_the_sdks(
    agent: Any, server: Server, options: dict[str, str], question: str, status: int, code: str
) -> None:
    with pytest.raises(getattr(openai, SDK_ERRORS[status])) as caught:
        await agents.Runner.run(agent(server, **options), question)
    assert caught.value.code == code
