"""langchain-anthropic: `ChatAnthropic` on Messages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.langchain_chats import anthropic_chat
from tests.clients.story import GREETING, HELLO, TOO_LONG, Choice
from tests.scripted import THOUGHTS
from tests.serving import Server

anthropic = pytest.importorskip("anthropic")


@pytest.fixture
def chat(server: Server) -> Any:
    return anthropic_chat(server)


def test_a_chat_is_answered(chat: Any) -> None:
    answer = chat.invoke(HELLO)
    assert answer.content == GREETING
    assert answer.response_metadata["stop_reason"] == "end_turn"
    assert answer.usage_metadata["output_tokens"] > 0


def test_a_thinking_model_is_answered_in_turns(thinking_server: Server) -> None:
    chat = anthropic_chat(thinking_server)
    answer = chat.invoke(HELLO)
    thoughts, text = answer.content
    assert (thoughts["thinking"], text["text"]) == (THOUGHTS, GREETING)
    assert chat.invoke([("human", HELLO), answer, ("human", HELLO)]).text == GREETING


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_random_weights_are_held_to_the_class(random_server: Server, method: str) -> None:
    chat = anthropic_chat(random_server, model="random", model_kwargs={"extra_body": {"seed": 1, "temperature": 1.5}})
    assert isinstance(chat.with_structured_output(Choice, method=method).invoke(HELLO), Choice)


@pytest.mark.parametrize(
    ("options", "question", "error"),
    [
        ({"api_key": "wrong"}, HELLO, "AuthenticationError"),
        ({"model": "gpt-9"}, HELLO, "NotFoundError"),
        ({}, TOO_LONG, "BadRequestError"),
    ],
)
def test_an_error_is_the_sdks(server: Server, options: dict[str, str], question: str, error: str) -> None:
    with pytest.raises(getattr(anthropic, error)):
        anthropic_chat(server, **options).invoke(question)
    with pytest.raises(getattr(anthropic, error)):
        list(anthropic_chat(server, **options).stream(question))
