"""The application on a Ray cluster of several nodes: what clients notice."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("ray", reason="needs the environment of requirements/ray.txt")

from benchmarks.ray_cluster import RayCluster
from server.kv_events.blocks import BLOCK_TOKENS
from tests.chats import CHAT
from tests.ray.streams import SECONDS, chat
from tests.waiting import wait_until


def post(cluster: RayCluster, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(f"{cluster.url}{CHAT}", json=body, headers=headers, timeout=SECONDS)


def cached(cluster: RayCluster, user: str, **headers: str) -> int:
    """Return how many prompt tokens of a chat came from the prefix cache of the replica that answered."""
    response = post(cluster, chat(user), {name.replace("_", "-"): value for name, value in headers.items()})
    assert response.status_code == 200, response.text
    return response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_the_openai_client_streams_through_the_proxy(cluster: RayCluster) -> None:
    client = openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(
        model="lfm2-demo", messages=[{"role": "user", "content": "What are you?"}], stream=True, max_tokens=200
    )
    chunks = list(stream)
    assert len(chunks) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_request_id_is_in_the_response_once(cluster: RayCluster) -> None:
    response = httpx.get(f"{cluster.url}/v1/models", headers={"x-request-id": "mine"}, timeout=60)
    assert response.headers.get_list("x-request-id") == ["mine"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"{", 400, "invalid_json"), (b" " * (2**21 + 1), 413, "request_too_large")],
)
def test_errors_of_replicas_and_of_the_ingress_have_the_same_shape(
    cluster: RayCluster, content: bytes, status: int, code: str
) -> None:
    response = httpx.post(f"{cluster.url}{CHAT}", content=content, timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_a_request_that_takes_too_long_is_a_504(cluster: RayCluster) -> None:
    response = post(cluster, chat("Write on.", max_tokens=20_000), {"X-Request-Timeout": "0.5"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "request_timeout")


def test_an_error_on_messages_is_in_anthropics_format(cluster: RayCluster) -> None:
    url, headers = f"{cluster.url}/v1/messages", {"X-Request-Timeout": "0.5", "x-request-id": "mine"}
    response = httpx.post(url, json=chat("Write on.", max_tokens=20_000), headers=headers, timeout=SECONDS)
    assert response.status_code == 504
    error = response.json()
    assert (error["error"]["type"], error["request_id"]) == ("timeout_error", "mine")
    assert response.headers.get_list("x-request-id") == response.headers.get_list("request-id") == ["mine"]


def test_a_client_that_leaves_frees_its_slot(cluster: RayCluster) -> None:
    headers = {"x-session-id": "leaving"}
    body = chat("Write on.", stream=True, max_tokens=20_000)
    with httpx.stream("POST", f"{cluster.url}{CHAT}", json=body, headers=headers, timeout=SECONDS) as response:
        lines = response.iter_lines()
        next(lines)
        assert running(cluster, headers) == 1
    wait_until(lambda: running(cluster, headers) == 0)


def running(cluster: RayCluster, headers: dict[str, str]) -> int:
    """Return the number of requests that the replica of a session is answering."""
    metrics = httpx.get(f"{cluster.url}/metrics", headers=headers, timeout=60).text
    (line,) = (line for line in metrics.splitlines() if line.startswith("lfm_requests_running "))
    return int(float(line.split()[1]))


def test_a_session_stays_on_its_replica(cluster: RayCluster) -> None:
    for session in ("ann", "bob", "eve"):
        first = f"The first turn of {session}, with its own long text: " + f"{session} likes books. " * 40
        cached(cluster, first, x_session_id=session)
        again = cached(cluster, first, x_session_id=session)
        assert again > BLOCK_TOKENS * 4, "the whole first turn is in that replica's cache"


def test_a_prompt_goes_to_the_replica_that_has_its_start(cluster: RayCluster) -> None:
    cached(cluster, "Which books do you have?")
    for user in ("Which films do you have?", "Where are you?", "How long are you open?"):
        assert cached(cluster, user) > 4 * BLOCK_TOKENS, "the system message is in that replica's cache"
