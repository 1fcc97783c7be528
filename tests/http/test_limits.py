"""Limits of a request's size and time, each with the error that names it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.chats import HELLO
from tests.errors import error_of
from tests.serving import Server, StartServer

ENDLESS: dict[str, Any] = {"messages": HELLO, "logit_bias": {"7": -100}, "temperature": 0}


@pytest.fixture
def start(tiny_model: Path, start_server: StartServer) -> StartServer:
    """Start a server with one slot."""
    return lambda **options: start_server(**{"model": str(tiny_model), "max_seqs": 1, "threads": 1} | options)


@contextmanager
def running(server: Server, stream: bool = True) -> Iterator[Iterator[str]]:
    """Occupy the only slot with an endless stream during the block."""
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=ENDLESS | {"stream": stream}) as answer:
        lines = answer.iter_lines()
        next(lines)
        yield lines


def test_a_request_beyond_its_time_limit_is_a_504_that_is_not_retried(start: StartServer) -> None:
    server = start(request_timeout=0.5)
    answer = server.chat(**ENDLESS, max_tokens=4000)
    assert answer.headers["x-should-retry"] == "false"
    error = error_of(answer, 504)
    assert (error["type"], error["code"]) == ("timeout_error", "request_timeout")
    assert error["message"] == "The request did not finish within its time limit of 0.5 seconds."
    server.wait_until(server.is_idle)


def test_a_client_can_lower_the_time_limit_but_not_raise_it(start: StartServer) -> None:
    server = start(request_timeout=1)
    url = f"{server.url}/v1/chat/completions"
    for sent, kept in (("0.2", "0.2"), ("100", "1")):
        answer = httpx.post(url, json=ENDLESS, headers={"X-Request-Timeout": sent}, timeout=30)
        assert f"limit of {kept} seconds" in error_of(answer, 504)["message"]


@pytest.mark.parametrize("sent", ["soon", "0", "-1", "nan"])
def test_an_invalid_time_limit_is_refused(tiny: Server, sent: str) -> None:
    headers = {"X-Request-Timeout": sent}
    answer = httpx.post(f"{tiny.url}/v1/chat/completions", json={"messages": HELLO}, headers=headers)
    error = error_of(answer, 400)
    assert error["param"] == "X-Request-Timeout"
    assert error["message"].endswith(f"must be a number of seconds greater than 0; got {sent!r}.")


def test_a_stream_that_takes_too_long_ends_with_an_error(start: StartServer) -> None:
    server = start(request_timeout=0.5)
    with pytest.raises(openai.APIError, match=r"time limit of 0\.5 seconds"):
        list(server.client.chat.completions.create(model="tiny-model", stream=True, **ENDLESS))
    server.wait_until(server.is_idle)


def test_a_request_beyond_max_queue_time_is_a_503(start: StartServer) -> None:
    server = start(max_queue_time=0.2)
    with running(server):
        answer = server.chat(messages=HELLO)
        error = error_of(answer, 503)
        assert (error["type"], error["code"]) == ("server_error", "overloaded")
        assert "has waited 0.2 seconds in the queue, which is the maximum (--max-queue-time)" in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
    server.wait_until(server.is_idle)


def test_max_queue_time_does_not_limit_a_running_request(start: StartServer) -> None:
    server = start(max_queue_time=0.2)
    assert server.chat(**ENDLESS, max_tokens=1500).json()["usage"]["completion_tokens"] == 1500


def test_a_full_queue_refuses_at_once_and_says_when_to_retry(start: StartServer) -> None:
    server = start(max_waiting=1)
    with running(server):
        waiting = threading.Thread(target=lambda: server.chat(messages=HELLO, max_tokens=1))
        waiting.start()
        server.wait_until(lambda: server.engine.waiting == 1)
        answer = server.chat(messages=HELLO)
        error = error_of(answer, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")
        assert error["message"].startswith("The server is overloaded: at most 1 requests may wait in the queue.")
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert int(answer.headers["retry-after-ms"]) > 0
    waiting.join()
    server.wait_until(server.is_idle)


def test_prompts_that_wait_have_a_limit_of_tokens(start: StartServer) -> None:
    server = start(max_waiting_tokens=40)
    with running(server):
        waiting = threading.Thread(target=lambda: server.chat(messages=HELLO, max_tokens=1))
        waiting.start()
        server.wait_until(lambda: server.engine.waiting == 1)
        error = error_of(server.chat(messages=[{"role": "user", "content": "1 2 3 " * 20}]), 429)
        assert "at most 40 prompt tokens may wait" in error["message"]
    waiting.join()


def test_no_answer_exceeds_max_output_tokens(start: StartServer) -> None:
    server = start(max_output_tokens=7)
    for asked in ({}, {"max_tokens": 100}):
        answer = server.chat(**ENDLESS, **asked).json()
        assert answer["usage"]["completion_tokens"] == 7
        assert answer["choices"][0]["finish_reason"] == "length"
    assert server.chat(**ENDLESS, max_tokens=3).json()["usage"]["completion_tokens"] == 3


def test_more_choices_than_max_n_are_refused(start: StartServer) -> None:
    server = start(max_n=2)
    assert error_of(server.chat(messages=HELLO, n=3), 400)["message"] == (
        "n must be at most 2 on this server (--max-n); got 3."
    )


@pytest.mark.parametrize("field", ["messages", "tools"])
def test_too_many_items_are_counted_before_they_are_looked_at(tiny: Server, field: str) -> None:
    error = error_of(tiny.chat(**{"messages": HELLO, field: [1] * 100_000}), 400)
    assert error["param"] == field
    assert error["message"].endswith("items; got 100,000.")


def test_a_stream_sends_pings_while_its_prompt_is_read(start: StartServer, held: threading.Event) -> None:
    server = start(sse_ping=0.1)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=ENDLESS | {"stream": True}) as answer:
        assert answer.status_code == 200
        lines = (line for line in answer.iter_lines() if line)
        assert [next(lines), next(lines)] == [": ping", ": ping"]
        held.set()
        assert next(line for line in lines if line != ": ping").startswith("data: {")


def test_a_stream_sends_pings_while_it_waits_for_its_turn_and_then_an_error(start: StartServer) -> None:
    server = start(sse_ping=0.1, max_queue_time=0.5)
    with running(server), httpx.stream(
        "POST", f"{server.url}/v1/chat/completions", json=ENDLESS | {"stream": True}
    ) as answer:  # fmt: skip
        said = [line for line in answer.iter_lines() if line]
    assert said[0] == ": ping"
    (error,) = (line for line in said if line != ": ping")  # a last ping may follow it
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "overloaded"


def test_an_error_before_the_first_ping_has_its_own_status(start: StartServer) -> None:
    server = start(sse_ping=30, max_queue_time=0.2)
    with running(server):
        error_of(server.chat(**ENDLESS, stream=True), 503)


def test_more_choices_than_the_server_can_queue_are_a_400(start: StartServer) -> None:
    error = error_of(start(max_waiting=2).chat(messages=HELLO, n=4), 400)
    assert error["param"] == "n"
    assert "n must be at most 3 on this server; got 4" in error["message"]
