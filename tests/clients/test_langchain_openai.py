"""langchain-openai: `ChatOpenAI` on chat completions and on responses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.langchain_chats import openai_chat
from tests.clients.story import GREETING, HELLO, TOO_LONG, Person
from tests.serving import Server

exceptions = pytest.importorskip("langchain_core.exceptions")
openai = pytest.importorskip("openai")


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def use_responses_api(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def chat(server: Server, use_responses_api: bool) -> Any:
    return openai_chat(server, use_responses_api=use_responses_api)


def test_a_chat_is_answered(chat: Any) -> None:
    answer = chat.invoke(HELLO)
    assert answer.text == GREETING
    metadata = answer.response_metadata
    assert (metadata["status"] if chat.use_responses_api else metadata["finish_reason"]) in ("completed", "stop")
    assert answer.usage_metadata["output_tokens"] > 0


def test_a_thinking_model_is_answered_in_turns(thinking_server: Server, use_responses_api: bool) -> None:
    chat = openai_chat(thinking_server, use_responses_api=use_responses_api)
    answer = chat.invoke(HELLO)
    assert (answer.text, answer.usage_metadata["output_token_details"]["reasoning"] > 0) == (GREETING, True)
    assert chat.invoke([("human", HELLO), answer, ("human", HELLO)]).text == GREETING


@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_random_weights_are_held_to_the_class(
    random_server: Server, method: str, strict: bool | None, use_responses_api: bool
) -> None:
    options: Any = {"temperature": 1.5, "max_tokens": 1000, "extra_body": {"seed": 1}}
    chat = openai_chat(random_server, model="random", use_responses_api=use_responses_api, **options)
    asked = chat.with_structured_output(Person, method=method, strict=strict)
    assert isinstance(asked.invoke(HELLO), Person)


def test_a_wrong_key_is_an_authentication_error(server: Server, use_responses_api: bool) -> None:
    with pytest.raises(openai.AuthenticationError, match="invalid_api_key"):
        openai_chat(server, api_key="wrong", use_responses_api=use_responses_api).invoke(HELLO)


def test_a_wrong_model_is_not_found(server: Server, use_responses_api: bool) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        openai_chat(server, model="gpt-9", use_responses_api=use_responses_api).invoke(HELLO)


def test_a_prompt_that_is_too_long_is_langchains_overflow_error(chat: Any) -> None:
    with pytest.raises(exceptions.ContextOverflowError, match="maximum context length"):
        chat.invoke(TOO_LONG)
    with pytest.raises(exceptions.ContextOverflowError):
        list(chat.stream(TOO_LONG))
