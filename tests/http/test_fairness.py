"""One client costs the others nothing: unread streams stop computing, and everything counts against its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engine.sequence import MAX_BACKLOG
from tests.chats import CHAT, HELLO
from tests.raw_http import connected
from tests.serving import Server, StartServer

ENDLESS: dict[str, Any] = {"messages": HELLO, "ignore_eos": True, "stream": True}


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_nobody_reads_stops_computing(tiny_model: Path, start_server: StartServer, n: int) -> None:
    server = start_server(model=str(tiny_model), max_seqs=4, threads=1)
    body = json.dumps(ENDLESS | {"n": n, "logprobs": True, "top_logprobs": 20}).encode()
    with connected(server.url) as client:
        client.post(CHAT, f"Content-Length: {len(body)}", body=body)
        server.wait_until(lambda: len(server.engine.state.suspended) == n)
        assert server.engine.running == 0
        assert all(MAX_BACKLOG <= s.backlog < MAX_BACKLOG + 64 for s in server.engine.state.suspended)
        assert server.chat(messages=HELLO, max_tokens=4).status_code == 200
    server.wait_until(server.is_idle)


def test_tokens_that_were_never_read_are_charged(tmp_path: Path, tiny_model: Path, start_server: StartServer) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[dora]\nkey = 'key-d'\ntokens_per_minute = 100000")
    server = start_server(model=str(tiny_model), max_seqs=4, threads=1, api_keys_file=keys)
    headers = {"Authorization": "Bearer key-d"}
    body = json.dumps(ENDLESS | {"logprobs": True, "top_logprobs": 20}).encode()
    with connected(server.url) as client:
        client.post(CHAT, "Authorization: Bearer key-d", f"Content-Length: {len(body)}", body=body)
        server.wait_until(lambda: bool(server.engine.state.suspended))
        (sequence,) = server.engine.state.suspended
    server.wait_until(server.is_idle)
    answer = httpx.get(f"{server.url}/v1/models", headers=headers)
    left = int(answer.headers["x-ratelimit-remaining-tokens"])
    assert left <= 100_000 - sequence.generated + 100_000 / 60 * 0.5  # half a second refills some


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "hello"}),
        ("/tokenize", {"messages": HELLO}),
        ("/detokenize", {"tokens": [1]}),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 1}),
    ],
)
def test_every_route_that_costs_cpu_counts_as_a_request_of_its_key(
    tmp_path: Path, tiny_model: Path, start_server: StartServer, path: str, body: dict[str, Any]
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[bob]\nkey = 'key-b'\nmax_concurrent = 1")
    server = start_server(model=str(tiny_model), threads=1, api_keys_file=keys)
    headers = {"Authorization": "Bearer key-b"}
    with httpx.stream("POST", server.url + CHAT, json=ENDLESS, headers=headers, timeout=60):
        answer = httpx.post(server.url + path, json=body, headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    server.wait_until(server.is_idle)
    assert httpx.post(server.url + path, json=body, headers=headers, timeout=60).status_code == 200


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
def test_a_wrong_time_limit_is_a_400_on_every_route(tiny: Server, path: str) -> None:
    answer = httpx.post(tiny.url + path, json={"prompt": "x"}, headers={"X-Request-Timeout": "soon"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "X-Request-Timeout")


@pytest.mark.parametrize(
    "dead_end",
    [
        {"stop_token_ids": list(range(1024)), "min_tokens": 1},
        {"stop_token_ids": list(range(1024)), "min_tokens": 1, "temperature": 1.5, "n": 2},
        {"stop_token_ids": list(range(1024)), "min_tokens": 1, "stream": True},
    ],
)
def test_a_request_that_allows_no_token_is_a_400_and_fails_alone(tiny: Server, dead_end: dict[str, Any]) -> None:
    with httpx.stream("POST", tiny.url + CHAT, json=ENDLESS, timeout=60) as innocent:
        lines = innocent.iter_lines()
        next(lines)
        answer = tiny.chat(messages=HELLO, **dead_end)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_token_allowed")
        assert '"error"' not in "".join(line for line, _ in zip(lines, range(40), strict=False))
