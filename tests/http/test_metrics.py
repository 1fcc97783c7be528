"""/metrics as Prometheus reads it, against what the clients counted."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.chats import ENDLESS, HELLO
from tests.scraping import Scrape, until_over
from tests.serving import Server, StartServer

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "metrics.md"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
def server(tiny_model: Path, start_server: StartServer) -> Server:
    """A server for one test, so that its counters start at 0."""
    return start_server(model=str(tiny_model), max_seqs=4, max_waiting=8, threads=1)


def last_usage(stream: str) -> dict[str, int]:
    events = [json.loads(line.removeprefix("data: ")) for line in stream.split("\n\n") if line.startswith("data: {")]
    usage: dict[str, int] = events[-1]["usage"]
    return usage


def test_tokens_are_those_that_the_clients_counted(server: Server) -> None:
    usages = []
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    asked: list[tuple[str, dict[str, Any]]] = [(CHAT, {"messages": HELLO}), (TEXT, {"prompt": ["hello", "hello you"]})]
    for path, body in asked:
        body |= {"max_tokens": 5, "n": 2}
        usages.append(httpx.post(server.url + path, json=body).json()["usage"])
        usages.append(last_usage(httpx.post(server.url + path, json=body | streamed).text))
    prompt, generated = (sum(usage[f"{kind}_tokens"] for usage in usages) for kind in ("prompt", "completion"))
    scrape = until_over(server, 4)
    assert generated > 0
    assert scrape("lfm_prompt_tokens_total") == scrape("lfm_request_prompt_tokens_sum") == prompt
    assert scrape("lfm_generation_tokens_total") == scrape("lfm_request_generation_tokens_sum") == generated


def test_a_prompt_that_is_only_scored_counts(server: Server) -> None:
    body = {"prompt": "hello there", "max_tokens": 0, "echo": True, "logprobs": 1}
    usage = httpx.post(server.url + TEXT, json=body).json()["usage"]
    scrape = until_over(server, 1)
    assert scrape("lfm_prompt_tokens_total") == usage["prompt_tokens"]
    assert scrape("lfm_requests_total", route=TEXT, finish_reason="length") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_counted_with_the_tokens_it_had(server: Server, stream: bool) -> None:
    body = {"messages": HELLO, "stream": stream, **ENDLESS}
    async with httpx.AsyncClient(timeout=60) as client:
        request = asyncio.create_task(client.post(server.url + CHAT, json=body))
        await asyncio.to_thread(server.wait_until, lambda: Scrape(server.url)("lfm_generation_tokens_total") >= 10)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    scrape = await asyncio.to_thread(until_over, server, 1)
    assert scrape("lfm_requests_total", route=CHAT, finish_reason="cancelled") == 1
    assert scrape("lfm_generation_tokens_total") == scrape("lfm_request_generation_tokens_sum") >= 10
    assert scrape.total("lfm_request_errors_total") == 0


def test_tokens_are_counted_while_they_are_generated(server: Server) -> None:
    def halfway(scrape: Scrape) -> bool:
        return 0 < scrape("lfm_generation_tokens_total") < 3000 and scrape("lfm_requests_running") == 1

    body = {"messages": HELLO, "stream": True, "max_tokens": 3000, **ENDLESS}
    with httpx.stream("POST", server.url + CHAT, json=body, timeout=60) as answer:
        server.wait_until(lambda: halfway(Scrape(server.url)))
        answer.read()
    assert until_over(server, 1)("lfm_generation_tokens_total") == 3000


def test_each_phase_is_counted_once_for_each_request(server: Server) -> None:
    for _ in range(3):
        server.chat(messages=HELLO, max_tokens=8, **ENDLESS)
    scrape = until_over(server, 3)
    for phase in ("time_to_first_token", "queue", "prefill", "decode", "request"):
        assert scrape(f"lfm_{phase}_seconds_count") == 3, phase
    parts = sum(scrape(f"lfm_{phase}_seconds_sum") for phase in ("queue", "prefill", "decode"))
    assert 0 < parts <= scrape("lfm_request_seconds_sum")
    assert scrape("lfm_inter_token_latency_seconds_count") == 3 * 7
    assert scrape("lfm_step_seconds_count", kind="decode") == scrape("lfm_step_batch_size_count") == 3 * 7


def test_requests_that_are_refused_are_counted_by_their_code(server: Server) -> None:
    server.chat(messages=[])
    server.chat(messages=HELLO, model="another")
    httpx.post(server.url + TEXT, content=b"{")
    httpx.get(f"{server.url}/no/such/path")
    scrape = until_over(server, 4)
    assert scrape.total("lfm_request_errors_total") == 4
    for route, code in (
        (CHAT, "invalid_value"), (CHAT, "model_not_found"), (TEXT, "invalid_json"), ("unknown", "unknown_url"),
    ):  # fmt: skip
        assert scrape("lfm_request_errors_total", route=route, code=code) == 1, code


async def test_under_overload_totals_are_what_the_clients_saw(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), max_seqs=2, max_waiting=3, threads=1)
    body: dict[str, Any] = {"messages": HELLO, "max_tokens": 100, **ENDLESS}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}

    async def ask(client: httpx.AsyncClient, i: int) -> tuple[int, dict[str, int]]:
        answer = await client.post(CHAT, json=body | streamed if i % 2 else body)
        if answer.status_code != 200:
            return answer.status_code, {"prompt_tokens": 0, "completion_tokens": 0}
        return 200, last_usage(answer.text) if i % 2 else answer.json()["usage"]

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        seen = await asyncio.gather(*(ask(client, i) for i in range(20)))
    scrape = await asyncio.to_thread(until_over, server, 20)
    statuses = [status for status, _ in seen]
    assert set(statuses) == {200, 429}
    assert scrape("lfm_requests_total", route=CHAT, finish_reason="length") == statuses.count(200)
    assert scrape("lfm_request_errors_total", route=CHAT, code="overloaded") == statuses.count(429)
    assert scrape("lfm_prompt_tokens_total") == sum(usage["prompt_tokens"] for _, usage in seen)
    assert scrape("lfm_generation_tokens_total") == sum(usage["completion_tokens"] for _, usage in seen)
    assert scrape("lfm_requests_running") == scrape("lfm_requests_waiting") == 0


def test_probes_and_scrapes_are_not_counted(server: Server) -> None:
    for path in ("/health", "/ready", "/metrics", "/version"):
        httpx.get(server.url + path)
    scrape = until_over(server, 1)
    assert scrape("lfm_requests_total", route="/version", finish_reason="none") == 1
    assert scrape.total("lfm_requests_total") == 1


def test_the_model_and_the_build_are_labels(server: Server) -> None:
    facts = {name: dict(labels) for name, labels in Scrape(server.url).samples if name.endswith("_info")}
    assert facts["lfm_build_info"].keys() == {"version", "onnxruntime", "python"}
    assert facts["lfm_model_info"].items() >= {("model", "tiny-model"), ("dtype", "fp32")}


def test_the_open_metrics_format_is_sent_on_request(server: Server) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = httpx.get(f"{server.url}/metrics", headers=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "lfm_requests" in {family.name for family in open_metrics(answer.text)}


def test_two_servers_in_one_process_count_apart(server: Server, tiny: Server) -> None:
    tiny.chat(messages=HELLO, max_tokens=3)
    assert Scrape(server.url)("lfm_generation_tokens_total") == 0


def test_it_needs_no_key(tiny_model: Path, start_server: StartServer) -> None:
    locked = start_server(model=str(tiny_model), threads=1, api_key="secret")
    assert locked.chat(messages=HELLO).status_code == 401
    scrape = until_over(locked, 1)
    assert scrape("lfm_ready") == 1
    assert scrape("lfm_request_errors_total", route=CHAT, code="invalid_api_key") == 1


def test_the_documentation_lists_the_metrics_there_are(server: Server) -> None:
    listed = re.findall(r"^\| `(lfm_\w+)", DOCUMENTATION.read_text(), re.MULTILINE)
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    endings = {"counter": "_total"}
    names = [family.name + endings.get(family.type, "") for family in families if family.name.startswith("lfm_")]
    assert sorted(listed) == sorted(names)
