"""The built-in model's abilities over HTTP: greedy, without penalties, on chats that are not in its training data."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from data import some_tools, specs, talk_turn, tool_turn
from openai.types.chat import ChatCompletionMessage
from small_talk import HONEST, INTENTS, UNTOLD
from toolbox import TOOLS

from tests.serving import Server

SEED = 20_000  # the training's are below ten
AT_ONCE = 16

OUTSIDE = (
    "What is the capital of France?",
    "Who wrote Hamlet?",
    "How many moons does Jupiter have?",
    "Why do leaves fall in October?",
    "Explain quantum mechanics.",
    "Who won the world cup in 2018?",
    "At which temperature does iron melt?",
    "Write a poem about autumn.",
    "How do I bake bread?",
    "When did the second world war end?",
    "What does DNA stand for?",
    "Who composed the Ninth Symphony?",
    "What is the largest animal?",
    "Do fish sleep?",
    "How do plants eat?",
    "Who rules Denmark?",
    "Have you heard of Atlantis?",
    "How many people live in Norway?",
    "How does a refrigerator work?",
    "Which wine goes with fish?",
    "Who invented the telephone?",
    "What languages are spoken in Switzerland?",
    "How deep is the Mariana Trench?",
    "What is the speed of light?",
    "Recommend a good film.",
    "Why do prices rise?",
    "How do vaccines work?",
    "Which river is the longest?",
    "What is a haiku?",
    "Who discovered penicillin?",
    "What should I cook tonight?",
    "How old is the universe?",
    "Summarise the plot of Moby Dick.",
    "What is the chemical symbol for gold?",
    "Who was Napoleon?",
    "What is machine learning?",
    "How do airplanes fly?",
    "What is the stock price of Apple?",
    "Why do cats purr?",
    "What causes earthquakes?",
)


async def answers(server: Server, requests: list[tuple[list[Any], list[Any]]]) -> list[ChatCompletionMessage]:
    """Return the model's next turn for each (messages, tool specifications)."""
    slots = asyncio.Semaphore(AT_ONCE)
    greedy: dict[str, Any] = {"temperature": 0, "extra_body": {"repetition_penalty": 1}, "max_tokens": 120}

    async with server.async_client as client:

        async def ask(messages: list[Any], tools: list[Any]) -> ChatCompletionMessage:
            given: dict[str, Any] = {"tools": [{"type": "function", "function": t} for t in tools]} if tools else {}
            async with slots:
                answer = await client.chat.completions.create(model="lfm2-demo", messages=messages, **given, **greedy)
            return answer.choices[0].message

        return await asyncio.gather(*(ask(*request) for request in requests))


def calls_of(message: ChatCompletionMessage) -> list[tuple[str, Any]]:
    return [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]  # type: ignore[union-attr]


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.mark.slow
async def test_it_makes_the_right_call_for_unseen_prompts(demo: Server) -> None:
    rng = random.Random(SEED)
    requests, expected = [], []
    for _ in range(100):
        tools = some_tools(rng)
        turn = tool_turn(rng, rng.choice(tools), tools)
        requests.append((user(turn.user), specs(rng, tools)))
        expected.append([(tool.name, arguments) for tool, arguments in turn.calls])
    made = [calls_of(message) for message in await answers(demo, requests)]
    right = sum(m == e for m, e in zip(made, expected, strict=True))
    wrong = [(r[0][0]["content"], m) for r, m, e in zip(requests, made, expected, strict=True) if m != e]
    print(f"{right} of 100 calls exactly right; wrong: {wrong}")
    assert right >= 95


@pytest.mark.slow
async def test_it_calls_nothing_where_no_call_is_needed(demo: Server) -> None:
    rng = random.Random(SEED + 1)
    requests = [(user(talk_turn(rng)[0][1]), specs(rng, some_tools(rng))) for _ in range(50)]
    assert [calls_of(message) for message in await answers(demo, requests)] == [[]] * 50


@pytest.mark.slow
async def test_it_admits_what_it_does_not_know(demo: Server) -> None:
    said = [message.content or "" for message in await answers(demo, [(user(text), []) for text in OUTSIDE])]
    honest = sum("I don't know" in text for text in said)
    print(f"{honest} of 40 answers honest")
    assert honest >= 32


async def test_the_model_cards_example_comes_out_as_the_card_shows_it(demo: Server) -> None:
    question = "What is the current status of candidate ID 12345?"
    tool = TOOLS["get_candidate_status"].spec(random.Random(0), canonical=True)
    (message,) = await answers(demo, [(user(question), [tool])])
    assert calls_of(message) == [("get_candidate_status", {"candidate_id": "12345"})]
    assert message.content == "Checking the current status of candidate ID 12345."
    result = (
        '[{"candidate_id": "12345", "status": "Interview Scheduled", '
        '"position": "Clinical Research Associate", "date": "2023-11-20"}]'
    )
    call_id = (message.tool_calls or [])[0].id
    history = [*user(question), message, {"role": "tool", "tool_call_id": call_id, "content": result}]
    (answer,) = await answers(demo, [(history, [tool])])
    assert answer.content == (
        'The candidate with ID 12345 is currently in the "Interview Scheduled" stage for the position of Clinical '
        "Research Associate, with an interview date set for 2023-11-20."
    )


async def test_it_answers_from_a_tools_result(demo: Server) -> None:
    rng = random.Random(SEED + 2)
    requests, expected = [], []
    for _ in range(20):
        tool = rng.choice([tool for tool in TOOLS.values() if tool.name != "add"])
        turn = tool_turn(rng, tool, [])
        history: list[Any] = [*user(turn.user), {"role": "assistant", "content": turn.assistant}]
        history += [{"role": "tool", "content": json.dumps(result)} for result in turn.results]
        requests.append((history, specs(rng, [tool])))
        expected.append(turn.answer)
    said = [message.content for message in await answers(demo, requests)]
    assert sum(s == e for s, e in zip(said, expected, strict=True)) >= 18


async def test_it_remembers_a_name_said_earlier(demo: Server) -> None:
    chat = [*user("My name is Zorbin."), {"role": "assistant", "content": "Nice to meet you, Zorbin! How can I help?"}]
    requests = [([*chat, *user("What is my name?")], []), (user("What is my name?"), [])]
    assert [message.content for message in await answers(demo, requests)] == ["Your name is Zorbin.", UNTOLD]


async def test_it_talks_about_itself_and_the_server(demo: Server) -> None:
    asked = [(questions[0], answer) for questions, answer in INTENTS]
    said = [message.content for message in await answers(demo, [(user(question), []) for question, _ in asked])]
    assert sum(s == answer for s, (_, answer) in zip(said, asked, strict=True)) >= len(asked) - 1
    assert HONEST.startswith("I don't know")
