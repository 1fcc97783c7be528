"""Errors, keep-alive events and headers of the Messages API are Anthropic's, and only there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import ModelInfo
from anthropic.types.shared import ErrorResponse

from tests.http.messages_route import error_of, user
from tests.serving import Server, StartServer

VERSION = {"anthropic-version": "2023-06-01"}
BODY: dict[str, Any] = {"messages": [user("hello")], "max_tokens": 5}
ENDLESS = {**BODY, "max_tokens": 4000, "logit_bias": {"7": -100}}


def post(server: Server, path: str = "", headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/messages{path}", json=BODY | fields, headers=headers, timeout=60)


@contextmanager
def running(server: Server, **fields: Any) -> Iterator[httpx.Response]:
    """A stream that has begun and does not end by itself."""
    url = f"{server.url}/v1/messages"
    with httpx.stream("POST", url, json=ENDLESS | {"stream": True} | fields, timeout=60) as answer:
        yield answer


@pytest.mark.parametrize("path", ["", "/count_tokens"])
def test_an_unknown_model_is_not_found(tiny: Server, path: str) -> None:
    error = error_of(post(tiny, path, model="claude"), 404)
    assert error["type"] == "not_found_error"
    assert "`claude` does not exist" in error["message"]


def test_a_path_or_a_method_that_does_not_exist_is_anthropics_error(tiny: Server) -> None:
    assert error_of(post(tiny, "/batches"), 404)["type"] == "not_found_error"
    answer = httpx.get(f"{tiny.url}/v1/messages")
    assert (error_of(answer, 405)["type"], answer.headers["allow"]) == ("invalid_request_error", "POST")
    assert httpx.post(f"{tiny.url}/v1/messages2", headers=VERSION).json()["error"]["code"] == "unknown_url"


def test_a_body_that_is_no_json_or_too_large_is_anthropics_error(tiny: Server) -> None:
    url = f"{tiny.url}/v1/messages"
    assert error_of(httpx.post(url, content=b"{"), 400)["type"] == "invalid_request_error"
    answer = httpx.post(url, content=b" " * (2 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


def test_a_prompt_that_is_too_long_is_an_invalid_request(tiny: Server) -> None:
    for stream in (False, True):
        error = error_of(post(tiny, messages=[user("word " * 9000)], stream=stream), 400)
        assert "maximum context length" in error["message"]


def test_a_full_queue_is_a_529_and_for_nginx_a_403_that_it_can_retry(
    tiny_model: Path, start_server: StartServer, held: threading.Event
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=1, max_waiting=1)
    with ThreadPoolExecutor(2) as pool:
        accepted = [pool.submit(post, server)]
        server.wait_until(lambda: server.engine.running == 1)
        accepted.append(pool.submit(post, server))
        server.wait_until(lambda: server.engine.waiting == 1)
        answer = post(server)
        proxied = post(server, headers={"X-LFM-Proxy": "nginx"})
        with pytest.raises(anthropic.APIStatusError) as caught:
            anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0).messages.create(
                model="tiny-model", max_tokens=1, messages=[{"role": "user", "content": "hello"}]
            )
        assert server.chat(messages=BODY["messages"]).status_code == 429
        held.set()
    assert [each.result().status_code for each in accepted] == [200, 200]
    for each, status in ((answer, 529), (proxied, 403)):
        assert error_of(each, status)["type"] == "overloaded_error"
        assert int(each.headers["retry-after"]) > 0
    assert "x-accel-redirect" not in answer.headers
    assert proxied.headers["x-accel-redirect"] == "@overloaded"
    assert (type(caught.value).__name__, caught.value.status_code) == ("OverloadedError", 529)


def test_a_request_that_waits_too_long_is_a_503(
    tiny_model: Path, start_server: StartServer, held: threading.Event
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=1, max_queue_time=0.2)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(post, server)
        server.wait_until(lambda: server.engine.running == 1)
        error = error_of(post(server), 503)
        held.set()
    assert error["type"] == "overloaded_error"
    assert "waited 0.2 seconds in the queue" in error["message"]


def test_a_stream_pings_by_name_and_an_error_is_its_last_event(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), max_seqs=1, sse_ping=0.1, request_timeout=3)
    with running(server) as first, running(server) as second:
        next(first.iter_bytes())
        *events, last = [event for event in second.read().decode().split("\n\n") if event]
    assert 'event: ping\ndata: {"type":"ping"}' in events
    last = last if last.startswith("event: error") else events[-1]  # a last ping may follow
    name, data = last.split("\n")
    assert name == "event: error"
    error = ErrorResponse.model_validate_json(data.removeprefix("data: "), strict=True)
    assert (error.error.type, error.request_id) == ("timeout_error", second.headers["request-id"])


def test_the_sdk_raises_the_last_event(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), request_timeout=0.5)
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)
    options: dict[str, Any] = {"model": "tiny-model", "max_tokens": 4000, "extra_body": {"logit_bias": {"7": -100}}}
    with (
        pytest.raises(anthropic.APIStatusError, match="within its time limit"),
        client.messages.stream(messages=[{"role": "user", "content": "hello"}], **options) as stream,
    ):
        stream.until_done()


@pytest.fixture
def guarded(tmp_path: Path, tiny_model: Path, start_server: StartServer) -> Server:
    """A key for bob, who may have one request at once and a thousand tokens a minute."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f"""
        [bob]
        key = "sha256:{hashlib.sha256(b"key-b").hexdigest()}"
        max_concurrent = 1
        tokens_per_minute = 1000
    """)
    return start_server(model=str(tiny_model), threads=1, api_keys_file=keys)


def test_a_key_is_taken_from_either_header(guarded: Server) -> None:
    for headers in ({"x-api-key": "key-b"}, {"Authorization": "Bearer key-b"}):
        assert post(guarded, headers=headers).status_code == 200
    for headers in ({}, {"x-api-key": "key-c"}, {"Authorization": "Bearer key-c", "x-api-key": "key-b"}):
        assert error_of(post(guarded, headers=headers), 401)["type"] == "authentication_error"
    assert httpx.get(f"{guarded.url}/v1/models", headers={"x-api-key": "key-b"}).status_code == 200


def test_the_limits_of_a_key_are_in_anthropics_headers(guarded: Server, held: threading.Event) -> None:
    held.set()
    headers = {"x-api-key": "key-b"}
    answer = post(guarded, headers=headers)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    for kind, limit in (("requests", 1), ("tokens", 1000)):
        names = [f"anthropic-ratelimit-{kind}-{name}" for name in ("limit", "remaining", "reset")]
        most, left, reset = (answer.headers[name] for name in names)
        assert (int(most), int(left) <= limit) == (limit, True)
        assert datetime.fromisoformat(reset) - datetime.now(UTC) < timedelta(minutes=1)
    held.clear()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(post, guarded, headers=headers, messages=[user("other words")])  # none of them is cached
        guarded.wait_until(lambda: guarded.engine.running == 1)
        refused = post(guarded, headers=headers)
        held.set()
    assert error_of(refused, 429)["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) > 0


def test_models_are_in_anthropics_form_if_a_version_is_sent(tiny: Server) -> None:
    client = anthropic.Anthropic(base_url=tiny.url, api_key="none", max_retries=0)
    (model,) = client.models.list(limit=1)
    assert client.models.retrieve("tiny-model") == model
    assert (model.id, model.display_name, model.lifecycle) == ("tiny-model", "tiny-model", "active")
    entry = httpx.get(f"{tiny.url}/v1/models/tiny-model", headers=VERSION)
    ModelInfo.model_validate_json(entry.content)
    plain = httpx.get(f"{tiny.url}/v1/models/tiny-model").json()
    assert (plain["object"], plain["max_model_len"] - 1) == ("model", model.max_tokens)
    assert error_of(httpx.get(f"{tiny.url}/v1/models/claude", headers=VERSION), 404)["type"] == "not_found_error"
    assert "code" in httpx.get(f"{tiny.url}/v1/models/claude").json()["error"]
