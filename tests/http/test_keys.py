"""API keys: access, limits, and the headers about them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.api.access.api_keys import read_keys
from server.errors import StartupError
from server.settings import Settings
from tests.chats import HELLO
from tests.errors import error_of
from tests.serving import Server, StartServer, recorded_requests, serving

ENDLESS: dict[str, Any] = {"messages": HELLO, "logit_bias": {"7": -100}}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """A server with the keys of alice (given by its hash), bob (one request at once) and carl (few tokens).

    Only one test may use carl's key: it uses up the tokens.
    """
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(f"""
        [alice]
        key = "sha256:{hashlib.sha256(b"key-a").hexdigest()}"
        [bob]
        key = "key-b"
        max_concurrent = 1
        [carl]
        key = "key-c"
        tokens_per_minute = 20
    """)
    with serving(Settings(model=str(tiny_model), max_seqs=4, threads=1, api_keys_file=keys)) as server:
        yield server


def chat(server: Server, key: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{server.url}/v1/chat/completions", json=ENDLESS | body, headers=headers, timeout=60)


@pytest.mark.parametrize(("key", "status"), [("key-a", 200), ("key-b", 200), ("key-d", 401), ("sha256:", 401)])
def test_the_keys_of_the_file_are_taken_and_no_others(guarded: Server, key: str, status: int) -> None:
    assert chat(guarded, key, max_tokens=1).status_code == status


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/tokenize", "/detokenize", "/v1/completions"])
def test_the_routes_of_the_model_need_a_key(guarded: Server, path: str) -> None:
    answer = httpx.get(guarded.url + path) if "models" in path else httpx.post(guarded.url + path, json={})
    assert answer.status_code == (404 if path == "/v1/nothing" else 401)


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/metrics", "/docs"])
def test_the_routes_of_the_server_need_no_key(guarded: Server, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


def test_a_key_is_limited_to_its_concurrent_requests(guarded: Server) -> None:
    headers = {"Authorization": "Bearer key-b"}
    url = f"{guarded.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=ENDLESS | {"stream": True}, headers=headers) as running:
        lines = running.iter_lines()
        next(lines)
        assert running.headers["x-ratelimit-remaining-requests"] == "0"
        answer = chat(guarded, "key-b", max_tokens=1)
        error = error_of(answer, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert error["message"] == "The key bob has reached its limit on concurrent requests (max_concurrent = 1)."
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert chat(guarded, "key-a", max_tokens=1).status_code == 200
    guarded.wait_until(guarded.is_idle)
    guarded.wait_until(lambda: chat(guarded, "key-b", max_tokens=1).status_code == 200)


def test_a_key_that_has_used_up_its_tokens_is_refused(guarded: Server) -> None:
    first = chat(guarded, "key-c", max_tokens=30)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-tokens"] == "20"
    answer = chat(guarded, "key-c", max_tokens=1)
    error = error_of(answer, 429)
    assert error["message"] == "The key carl has reached its limit on tokens per minute (tokens_per_minute = 20)."
    assert 30 <= int(answer.headers["retry-after"]) <= 120
    assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
    assert answer.headers["x-ratelimit-reset-tokens"].endswith("s")


def test_a_response_says_how_many_tokens_its_key_has_left(
    tmp_path: Path, tiny_model: Path, start_server: StartServer
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[dora]\nkey = 'key-d'\ntokens_per_minute = 600")
    answer = chat(start_server(model=str(tiny_model), threads=1, api_keys_file=keys), "key-d", max_tokens=200)
    used = answer.json()["usage"]["total_tokens"]
    assert used > 200
    # A second gives ten of them back.
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 600 - used + 190


def test_a_request_carries_its_keys_name_and_shares_no_prefix_with_others(guarded: Server) -> None:
    with recorded_requests(guarded) as requests:
        for key, salt in (("key-a", None), ("key-a", "x"), ("key-b", None)):
            chat(guarded, key, max_tokens=1, cache_salt=salt)
    assert [request.context.tenant for request in requests] == ["alice", "alice", "bob"]
    assert len({request.context.cache_salt for request in requests}) == 3


@pytest.fixture(scope="module")
def one_key(tiny_model: Path) -> Iterator[Server]:
    """A server with the only key secret-ü."""
    with serving(Settings(model=str(tiny_model), threads=1, api_key="secret-ü")) as server:
        yield server


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "The API key is missing: send the header `Authorization: Bearer KEY` or `x-api-key: KEY`."),
        ("Basic abc", "The API key is missing: send the header `Authorization: Bearer KEY` or `x-api-key: KEY`."),
        ("Bearer", "The API key is missing: send the header `Authorization: Bearer KEY` or `x-api-key: KEY`."),
        ("Bearer wrong", "Incorrect API key: the server has no such key."),
    ],
)
def test_a_wrong_key_is_refused(one_key: Server, authorization: str | None, message: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for answer in (
        httpx.post(f"{one_key.url}/v1/chat/completions", json={"messages": HELLO}, headers=headers),
        httpx.post(f"{one_key.url}/v1/completions", json={"prompt": "hello"}, headers=headers),
        httpx.get(f"{one_key.url}/v1/models", headers=headers),
    ):
        error = error_of(answer, 401)
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert error["message"] == message
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_right_key_opens_and_health_needs_none(one_key: Server) -> None:
    headers = {"Authorization": "Bearer secret-ü".encode()}
    assert httpx.get(f"{one_key.url}/v1/models", headers=headers).status_code == 200
    assert httpx.get(f"{one_key.url}/health").status_code == 200
    assert httpx.get(f"{one_key.url}/ready").status_code == 200
    with pytest.raises(openai.AuthenticationError):
        one_key.client.models.list()


def test_without_keys_the_tenant_is_the_address_that_a_trusted_proxy_names(tiny: Server) -> None:
    with recorded_requests(tiny) as requests:
        for headers in ({}, {"X-Forwarded-For": "203.0.113.7"}):
            body = ENDLESS | {"max_tokens": 1}
            httpx.post(f"{tiny.url}/v1/chat/completions", json=body, headers=headers)
    assert [request.context.tenant for request in requests] == ["127.0.0.1", "203.0.113.7"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a", "Expected"),
        ("key = 'x'", "key: Input should be"),
        ("[a]", "a.key: Field required"),
        ("[a]\nkey = ''", "a.key: String should have at least 1 character"),
        ("[a]\nkey = 'x'\nrate = 1", "a.rate: Extra inputs are not permitted"),
        ("[a]\nkey = 'x'\nmax_concurrent = 0", "a.max_concurrent: Input should be greater than or equal to 1"),
        ("", "there is no key in this file"),
        ("[a]\nkey = 'sha256:abcd'", "a.key: 'sha256:' must be followed by 64 hexadecimal digits"),
    ],
)
def test_an_invalid_keys_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(StartupError, match=f"^--api-keys-file: {path}: .*{complaint}"):
        read_keys(path)


def test_the_error_about_a_keys_file_contains_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("[a]\nkey = 12345678")
    with pytest.raises(StartupError) as refused:
        read_keys(path)
    assert "12345678" not in str(refused.value)


async def test_many_requests_of_one_key_do_not_keep_another_waiting(
    tmp_path: Path, tiny_model: Path, start_server: StartServer
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[many]\nkey = 'many'\n[one]\nkey = 'one'\n")
    server = start_server(model=str(tiny_model), max_seqs=2, max_waiting=100, threads=1, api_keys_file=keys)
    url = f"{server.url}/v1/chat/completions"
    over: list[str] = []

    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def ask(key: str) -> None:
            headers = {"Authorization": f"Bearer {key}"}
            answer = await client.post(url, json=ENDLESS | {"max_tokens": 20}, headers=headers)
            over.append({200: key, 429: "refused"}[answer.status_code])

        many = [asyncio.create_task(ask("many")) for _ in range(120)]
        while "refused" not in over:  # the queue is full
            await asyncio.sleep(0.01)
        await ask("one")
        assert over[-1] == "one"
        assert over.count("many") < 75
        await asyncio.gather(*many)
    assert len(over) == 121
