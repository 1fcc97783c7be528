"""From the opening of the port to the exit code: what a server says and does while it starts and while it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.processes import free_port
from tests.errors import error_of
from tests.waiting import wait_until

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "logit_bias": {"7": -100}}
SECONDS = 30


class Process:
    """A server of its own process, on a port that it has opened."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=SECONDS)

    def chat(self, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", json=CHAT | body, timeout=SECONDS)

    @contextmanager
    def stream(self, **body: Any) -> Iterator[Iterator[str]]:
        """The lines of a stream whose first one has come."""
        url = f"{self.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=CHAT | {"stream": True} | body, timeout=SECONDS) as answer:
            lines = answer.iter_lines()
            next(lines)
            yield (line for line in lines if line)

    def waiting(self) -> float:
        lines = self.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("lfm_requests_waiting ")).split()[1])

    def signal(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)


@contextmanager
def serve(*options: str, **variables: str) -> Iterator[Process]:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LFM_")} | variables
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = Process(process, f"http://127.0.0.1:{port}")

        def is_open() -> bool:
            assert process.poll() is None, "the server ended"
            try:
                return server.get("/health").status_code == 200
            except httpx.ConnectError:
                return False

        wait_until(is_open)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def tiny_options(tiny_model: Path) -> tuple[str, ...]:
    return ("--model", str(tiny_model), "--threads", "1", "--max-seqs", "1")


def test_while_the_model_loads_the_server_is_alive_and_says_how_far_it_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:  # takes connections and never answers
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        with serve("--model", "organization/model", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path)) as server:
            assert server.get("/health").status_code == 200
            answer = server.get("/ready")
            assert answer.status_code == 503
            assert answer.json()["status"] == "model_loading"
            assert answer.json()["detail"].startswith("The model is still loading: ")
            refused = server.chat()
            assert error_of(refused, 503)["code"] == "model_loading"
            assert int(refused.headers["retry-after"]) >= 1
            server.signal()
            assert server.process.wait(SECONDS) == 0


def test_who_runs_may_finish_and_who_waits_is_sent_elsewhere(tiny_options: tuple[str, ...]) -> None:
    with serve(*tiny_options) as server:
        wait_until(lambda: server.get("/ready").status_code == 200)
        answers: list[httpx.Response] = []
        with server.stream(max_tokens=3000) as lines:
            waiting = threading.Thread(target=lambda: answers.append(server.chat(stream=True)))
            waiting.start()
            wait_until(lambda: server.waiting() == 1)
            server.signal()
            waiting.join()
            assert [*lines][-1] == "data: [DONE]"
        assert error_of(answers[0], 503)["code"] == "draining"
        assert int(answers[0].headers["retry-after"]) >= 1
        assert server.process.wait(SECONDS) == 0


def test_during_the_drains_delay_requests_are_taken_and_the_server_is_not_ready(tiny_options: tuple[str, ...]) -> None:
    with serve(*tiny_options, "--drain-delay", "2") as server:
        wait_until(lambda: server.get("/ready").status_code == 200)
        server.signal()
        wait_until(lambda: server.get("/ready").status_code == 503)
        assert server.get("/ready").json()["status"] == "draining"
        assert server.chat(max_tokens=1).status_code == 200
        assert server.process.wait(SECONDS) == 0


def test_who_is_not_done_when_the_drains_time_is_over_is_told(tiny_options: tuple[str, ...]) -> None:
    with serve(*tiny_options, "--drain-timeout", "0.1") as server:
        wait_until(lambda: server.get("/ready").status_code == 200)
        with server.stream() as lines:
            server.signal()
            last = [*lines][-1]
        assert '"code":"draining"' in last
        assert server.process.wait(SECONDS) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tiny_options: tuple[str, ...], second: signal.Signals) -> None:
    with serve(*tiny_options) as server:
        wait_until(lambda: server.get("/ready").status_code == 200)
        with server.stream(), httpx.Client() as idle:
            server.signal()

            def is_stopping() -> bool:
                try:
                    return idle.get(f"{server.url}/ready").status_code == 503
                except httpx.TransportError:
                    return True

            wait_until(is_stopping)
            server.signal(second)
            assert server.process.wait(SECONDS) == -second


def test_keys_are_read_again_on_a_signal(tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[a]\nkey = 'old'")
    with serve(*tiny_options, "--api-keys-file", str(keys)) as server:
        wait_until(lambda: server.get("/ready").status_code == 200)

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{server.url}/v1/models", headers=headers).status_code

        assert (status("old"), status("new")) == (200, 401)
        keys.write_text("[a]\nkey = 'new'")
        server.signal(signal.SIGHUP)
        wait_until(lambda: (status("old"), status("new")) == (401, 200))
        keys.write_text("[a")
        server.signal(signal.SIGHUP)
        assert status("new") == 200
