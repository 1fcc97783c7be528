"""A model that fails on one request: that request gets an error, and the others are not affected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import openai
import pytest
from openai.types.responses import ResponseErrorEvent, ResponseFailedEvent

from server.chat.tokenizer import Tokenizer
from server.export.tokenizer import BUILT_IN_TOKENIZER
from server.runtime.session import ModelSession
from server.runtime.slots import SlotPool
from tests.http import messages_route
from tests.scraping import until_over
from tests.serving import Server, StartServer

TOKENIZER = Tokenizer.load(BUILT_IN_TOKENIZER)
POISON = "\N{SKULL AND CROSSBONES}"
BODY: dict[str, Any] = {"max_tokens": 40, "temperature": 0, "logit_bias": {"7": -100}}


@pytest.fixture
def fail_on_poison(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A prompt with POISON in it fails in prefill; a decode step's row is not finite at each length in the list."""
    lengths: list[int] = []
    run = ModelSession.run

    def failing(
        self: ModelSession,
        slots: SlotPool,
        first: int,
        tokens: npt.NDArray[np.int64],
        past: npt.NDArray[np.int64],
        *options: Any,
    ) -> npt.NDArray[np.float32]:
        if tokens.shape[1] > 1 and poisoned(tokens[0].tolist()):
            raise RuntimeError("made to fail")
        logits = run(self, slots, first, tokens, past, *options)
        logits[np.isin(past, lengths)] = np.nan
        return logits

    monkeypatch.setattr(ModelSession, "run", failing)
    return lengths


def poisoned(tokens: list[int]) -> bool:
    return POISON.encode() in b"".join(map(TOKENIZER.token_bytes, tokens))


def prompt_tokens(server: Server, content: str) -> int:
    answer = server.chat(messages=messages(content), **BODY | {"max_tokens": 1})
    return int(answer.json()["usage"]["prompt_tokens"])


def messages(content: str) -> list[Any]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_token_is_a_500(
    tiny: Server, fail_on_poison: list[int], stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answer = tiny.chat(messages=messages(POISON), stream=stream, **BODY)
    assert answer.status_code == 500
    assert f"A prefill step of 1 sequences failed. Requests: {answer.headers['x-request-id']}" in caplog.text
    assert answer.json()["error"] == {
        "message": "The model failed on this request; the server's log has the cause.",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    tiny.wait_until(tiny.is_idle)


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_on_messages_is_anthropics_api_error(tiny: Server, fail_on_poison: list[int], stream: bool) -> None:
    body = {"messages": messages(POISON), "stream": stream, **BODY}
    error = messages_route.error_of(httpx.post(f"{tiny.url}/v1/messages", json=body, timeout=60), 500)
    assert error["type"] == "api_error"
    assert error["message"].startswith("The model failed on this request")


def test_a_failed_response_in_the_background_has_the_error(tiny: Server, fail_on_poison: list[int]) -> None:
    client = tiny.client.responses
    response_id = client.create(model="tiny-model", input=POISON, background=True).id
    tiny.wait_until(lambda: client.retrieve(response_id).status == "failed")
    failed = client.retrieve(response_id)
    assert failed.error is not None
    assert (failed.error.code, failed.output) == ("server_error", [])
    assert failed.error.message.startswith("The model failed on this request")


def test_a_failure_within_a_stream_is_its_last_event(tiny: Server, fail_on_poison: list[int]) -> None:
    expected = tiny.chat(messages=messages("a long enough one"), **BODY).json()["choices"][0]["message"]["content"]
    prompt = prompt_tokens(tiny, "x")
    fail_on_poison.append(prompt + 30)
    with httpx.stream(
        "POST", f"{tiny.url}/v1/chat/completions", json={"messages": messages("x"), "stream": True} | BODY
    ) as answer:
        assert answer.status_code == 200
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert json.loads(events[-1])["error"]["message"] == "The model computed NaN or infinite logits for this request."
    assert len(events) > 2
    fail_on_poison.clear()
    assert (
        tiny.chat(messages=messages("a long enough one"), **BODY).json()["choices"][0]["message"]["content"] == expected
    )


def test_the_sdk_raises_a_failure_within_a_stream(tiny: Server, fail_on_poison: list[int]) -> None:
    fail_on_poison.append(prompt_tokens(tiny, "x") + 30)
    stream = tiny.client.chat.completions.create(model="tiny-model", messages=messages("x"), stream=True, **BODY)
    with pytest.raises(openai.APIError, match="NaN or infinite logits"):
        list(stream)


def test_a_streamed_response_that_fails_ends_with_the_error_and_the_response(
    tiny: Server, fail_on_poison: list[int]
) -> None:
    fail_on_poison.append(prompt_tokens(tiny, "x") + 30)
    body = {"input": "x", "stream": True, "max_output_tokens": 40, "temperature": 0, "logit_bias": {"7": -100}}
    answer = httpx.post(f"{tiny.url}/v1/responses", json=body, timeout=60)
    events = [text.partition("data: ")[2] for text in answer.text.rstrip().split("\n\n")]
    error = ResponseErrorEvent.model_validate_json(events[-2], strict=True)
    response = ResponseFailedEvent.model_validate_json(events[-1], strict=True).response
    assert response.error is not None
    assert error.message == response.error.message == "The model computed NaN or infinite logits for this request."
    assert response.output[0].to_dict()["status"] == "incomplete"


def test_the_tokens_before_a_failure_are_counted(
    tiny_model: Path, start_server: StartServer, fail_on_poison: list[int]
) -> None:
    server = start_server(model=str(tiny_model), threads=1)
    prompt = prompt_tokens(server, "x")
    fail_on_poison.append(prompt + 20)
    body = {"messages": messages("x"), "stream": True, "stream_options": {"continuous_usage_stats": True}, **BODY}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"logprobs": True})
    *_, last, _ = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    scrape = until_over(server, 2)
    assert scrape("lfm_generation_tokens_total") == 1 + last["usage"]["completion_tokens"]
    assert scrape("lfm_prompt_tokens_total") == 2 * prompt
    assert scrape.total("lfm_request_errors_total") == 1
    assert scrape("lfm_requests_total", route="/v1/chat/completions", finish_reason="error") == 1


def test_a_prompt_that_fails_is_counted_as_an_error_without_tokens(
    tiny_model: Path, start_server: StartServer, fail_on_poison: list[int]
) -> None:
    server = start_server(model=str(tiny_model), threads=1)
    assert server.chat(messages=messages(POISON), **BODY).status_code == 500
    scrape = until_over(server, 1)
    assert scrape("lfm_prompt_tokens_total") == scrape("lfm_generation_tokens_total") == 0
    assert scrape("lfm_step_failures_total") == 1
    assert scrape("lfm_request_errors_total", route="/v1/chat/completions", code="internal_error") == 1
