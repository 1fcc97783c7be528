"""vLLM's metric names, as gateways and dashboards read them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from server.api.http.request_records import RequestLog
from server.telemetry.metrics import Metrics
from tests.chats import ENDLESS, HELLO
from tests.scraping import Scrape, until_over
from tests.serving import Server, StartServer

MODEL = {"model_name": "tiny-model"}


@pytest.fixture
def server(tiny_model: Path, start_server: StartServer) -> Server:
    """A server for one test, so that its counters start at 0."""
    return start_server(model=str(tiny_model), max_seqs=1, max_waiting=8, threads=1)


def test_values_are_right_under_load_and_after_it(server: Server) -> None:
    def is_loaded(scrape: Scrape) -> bool:
        return (
            scrape("vllm:num_requests_running", **MODEL) == scrape("lfm_requests_running") == 1
            and scrape("vllm:num_requests_waiting", **MODEL) == scrape("lfm_requests_waiting") == 2
            and scrape("vllm:kv_cache_usage_perc", **MODEL) == scrape("lfm_slot_usage_ratio")
            and 0 < scrape("lfm_slot_usage_ratio") * server.engine.config.slot_tokens < 1100
        )

    body = {"messages": HELLO, "n": 3, "max_tokens": 1000, "stream": True, **ENDLESS}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
        server.wait_until(lambda: is_loaded(Scrape(server.url)))
        answer.read()
    scrape = until_over(server, 1)
    for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert scrape(f"vllm:{gauge}", **MODEL) == 0, gauge
    assert scrape("vllm:generation_tokens_total", **MODEL) == scrape("lfm_generation_tokens_total") == 3000
    assert scrape("vllm:prompt_tokens_total", **MODEL) == scrape("lfm_prompt_tokens_total") > 0
    assert scrape("vllm:time_to_first_token_seconds_count", **MODEL) == 1
    assert scrape("vllm:e2e_request_latency_seconds_sum", **MODEL) == scrape("lfm_request_seconds_sum") > 0
    assert scrape("vllm:e2e_request_latency_seconds_bucket", le="+Inf", **MODEL) == 1


def test_the_cache_is_described_by_its_blocks(server: Server) -> None:
    (labels,) = (dict(labels) for name, labels in Scrape(server.url).samples if name == "vllm:cache_config_info")
    assert labels.keys() == {"model_name", "block_size", "num_gpu_blocks"}
    assert (labels["model_name"], labels["block_size"]) == ("tiny-model", "64")
    assert int(labels["num_gpu_blocks"]) > 0


def test_gauges_are_0_while_the_model_loads() -> None:
    content, _ = Metrics(RequestLog(), lambda: False, "tiny").exposition("")
    lines = content.decode().splitlines()
    for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert f'vllm:{gauge}{{model_name="tiny"}} 0.0' in lines
    assert not any(line.startswith("vllm:cache_config_info") for line in lines)


def test_they_can_be_left_out(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), threads=1, metrics_compat="none")
    assert "vllm:" not in httpx.get(f"{server.url}/metrics").text
