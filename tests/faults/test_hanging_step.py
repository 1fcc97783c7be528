"""A step that hangs: /ready and the log report it, and its end."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.runtime.session import ModelSession
from tests.serving import StartServer


def test_a_step_that_hangs_makes_the_server_unready_until_it_ends(
    tiny_model: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = start_server(model=str(tiny_model), max_seqs=1, threads=1, step_timeout=1, max_queue_time=2)
    resume, run = threading.Event(), ModelSession.run

    def hanging(self: ModelSession, *arguments: Any, **options: Any) -> Any:
        resume.wait(60)
        return run(self, *arguments, **options)

    monkeypatch.setattr(ModelSession, "run", hanging)

    def ready() -> httpx.Response:
        return httpx.get(f"{server.url}/ready")

    assert ready().status_code == 200
    answers: list[httpx.Response] = []
    client = threading.Thread(
        target=lambda: answers.append(server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=1))
    )
    client.start()
    server.wait_until(lambda: server.engine.running == 1)
    waiting = server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=1)
    assert (waiting.status_code, waiting.json()["error"]["code"]) == (503, "overloaded")
    server.wait_until(lambda: ready().status_code == 503)
    assert ready().json()["status"] == "stalled"
    assert ready().json()["detail"].startswith("The engine hangs: a step has been running for ")
    assert httpx.get(f"{server.url}/health").status_code == 200
    refused = server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stalled")
    server.wait_until(lambda: "the server is not ready until it ends" in caplog.text)
    resume.set()
    server.wait_until(lambda: ready().status_code == 200)
    server.wait_until(lambda: "the server is ready" in caplog.text)
    client.join()
    assert answers[0].status_code == 200
