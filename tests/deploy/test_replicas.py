"""Replicas that die, restart and are replaced behind the real nginx: what clients notice.

Each test leaves two that run.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests import fleet
from tests.fleet import Fleet
from tests.waiting import wait_until

CHAT: dict[str, Any] = {"model": "lfm2-demo", "messages": [{"role": "user", "content": "What are you?"}]}


def streamed(client: openai.OpenAI, tokens: int, on_first: Callable[[], None] = lambda: None) -> str:
    """Return how a stream ended: its finish reason, or the error that the SDK raised."""
    try:
        stream = client.chat.completions.create(
            **CHAT, stream=True, max_tokens=tokens, extra_body={"ignore_eos": True}, timeout=120
        )
        chunks: list[ChatCompletionChunk] = []
        for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == 1:
                on_first()
    except (openai.APIError, httpx.TransportError) as error:
        return type(error).__name__
    return str(chunks[-1].choices[0].finish_reason)


def log_lines(running: Fleet) -> int:
    return len(running.nginx.log.with_name("access.log").read_text().splitlines())


def takes_load(running: Fleet, replica: fleet.Service, since: int) -> bool:
    """Return whether nginx has had an answer from this replica, by the lines of its log from `since` on."""
    fleet.answers(running.nginx.url + "/ready")
    lines = running.nginx.log.with_name("access.log").read_text().splitlines()[since:]
    return any(line["replicas"] == replica.address and line["status"] == 200 for line in map(json.loads, lines))


def bring_back(running: Fleet, replica: fleet.Service) -> None:
    since = log_lines(running)
    replica.start()
    replica.wait_until_ready()
    wait_until(lambda: takes_load(running, replica, since), fleet.START_SECONDS)


def test_requests_without_a_byte_yet_succeed_on_the_other_replica(shared: Fleet) -> None:
    dying, other = shared.replicas
    dying.process.send_signal(signal.SIGSTOP)
    client = shared.client()
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(streamed, client, 8) for _ in range(6)]
        wait_until(lambda: sum(future.done() for future in futures) >= 3, fleet.START_SECONDS)
        assert sum(future.done() for future in futures) < 6, "some must have gone to the replica that stands still"
        dying.kill()
        assert [future.result() for future in futures] == ["length"] * 6
    assert other.process.poll() is None
    bring_back(shared, dying)


def test_streams_of_a_killed_replica_end_with_an_error_and_the_others_go_on(shared: Fleet) -> None:
    dying = shared.replicas[0]
    client = shared.client()
    with ThreadPoolExecutor(6) as pool:
        started = [threading.Event() for _ in range(6)]
        futures = [pool.submit(streamed, client, 1000, event.set) for event in started]
        assert all(event.wait(60) for event in started)
        dying.kill()
        ends = [future.result() for future in futures]
    assert ends.count("length") == 3, ends
    assert all(end in ("length", "RemoteProtocolError", "APIConnectionError") for end in ends)
    assert streamed(client, 8) == "length", "new requests go to the one that is left"
    bring_back(shared, dying)


@pytest.mark.slow
def test_no_request_fails_while_replicas_are_replaced_one_by_one(shared: Fleet) -> None:
    client, over = shared.client(), threading.Event()

    def talk() -> list[str]:
        ends = []
        while not over.is_set():
            ends.append(streamed(client, 30))
        return ends

    with ThreadPoolExecutor(6) as pool:
        talking: list[Future[list[str]]] = [pool.submit(talk) for _ in range(6)]
        try:
            for each in shared.replicas:
                assert each.terminate() in (0, -signal.SIGTERM)
                bring_back(shared, each)
        finally:
            over.set()
        ends = [end for future in talking for end in future.result()]
    assert len(ends) > 6
    assert {*ends} == {"length"}
