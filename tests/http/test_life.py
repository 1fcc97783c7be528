"""The life of a server process: what it answers while it starts and while it drains, and its exit code."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.chats import HELLO
from tests.errors import error_of
from tests.http import messages_route
from tests.scraping import Scrape
from tests.server_process import ServerProcess, server_process


@pytest.fixture
def tiny_options(tiny_model: Path) -> tuple[str, ...]:
    return ("--model", str(tiny_model), "--threads", "1", "--max-seqs", "1")


def send_message(server: ServerProcess) -> httpx.Response:
    """Send a request to the Messages API."""
    body = {"messages": HELLO, "max_tokens": 5}
    return httpx.post(f"{server.url}/v1/messages", json=body, timeout=60)


def test_while_the_model_loads_the_server_is_alive_and_reports_its_progress(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:  # takes connections and never answers
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        with server_process("--model", "organization/model", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path)) as server:
            server.wait_until(lambda: server.status("/health") == 200)
            answer = server.get("/ready")
            assert answer.status_code == 503
            assert answer.json()["status"] == "model_loading"
            assert answer.json()["detail"].startswith("The model is still loading: ")
            refused = server.chat()
            assert error_of(refused, 503)["code"] == "model_loading"
            assert int(refused.headers["retry-after"]) >= 1
            assert messages_route.error_of(send_message(server), 503)["type"] == "overloaded_error"
            scrape = Scrape(server.url)
            for gauge in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
                sample = (f"vllm:{gauge}", frozenset({("model_name", "organization/model")}))
                assert scrape.samples[sample] == 0, gauge
            server.signal()
            assert server.exit_code() == 0


def test_a_drain_lets_running_requests_finish_and_refuses_waiting_ones(tiny_options: tuple[str, ...]) -> None:
    with server_process(*tiny_options) as server:
        server.wait_until_ready()
        with server.stream(max_tokens=3000) as lines, ThreadPoolExecutor(2) as pool:
            chat, message = pool.submit(server.chat, stream=True), pool.submit(send_message, server)
            server.wait_until(lambda: Scrape(server.url)("lfm_requests_waiting") == 2)
            server.signal()
            refused = chat.result()
            assert messages_route.error_of(message.result(), 503)["type"] == "overloaded_error"
            assert [*lines][-1] == "data: [DONE]"
        assert error_of(refused, 503)["code"] == "draining"
        assert int(refused.headers["retry-after"]) >= 1
        assert server.exit_code() == 0


def test_during_the_drain_delay_requests_are_served_and_the_server_is_not_ready(tiny_options: tuple[str, ...]) -> None:
    with server_process(*tiny_options, "--drain-delay", "2") as server:
        server.wait_until_ready()
        server.signal()
        server.wait_until(lambda: server.get("/ready").status_code == 503)
        assert server.get("/ready").json()["status"] == "draining"
        assert server.chat(max_tokens=1).status_code == 200
        assert server.exit_code() == 0


def test_a_stream_beyond_the_drain_timeout_ends_with_an_error(tiny_options: tuple[str, ...]) -> None:
    with server_process(*tiny_options, "--drain-timeout", "0.1") as server:
        server.wait_until_ready()
        with server.stream() as lines:
            server.signal()
            last = [*lines][-1]
        assert '"code":"draining"' in last
        assert server.exit_code() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tiny_options: tuple[str, ...], second: signal.Signals) -> None:
    with server_process(*tiny_options) as server:
        server.wait_until_ready()
        with server.stream(), httpx.Client() as idle:
            server.signal()

            def is_stopping() -> bool:
                try:
                    return idle.get(f"{server.url}/ready").status_code == 503
                except httpx.TransportError:
                    return True

            server.wait_until(is_stopping)
            server.signal(second)
            assert server.exit_code() == -second


def test_keys_are_read_again_on_a_signal(tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[a]\nkey = 'old'")
    with server_process(*tiny_options, "--api-keys-file", str(keys)) as server:
        server.wait_until_ready()

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{server.url}/v1/models", headers=headers).status_code

        assert (status("old"), status("new")) == (200, 401)
        keys.write_text("[a]\nkey = 'new'")
        server.signal(signal.SIGHUP)
        server.wait_until(lambda: (status("old"), status("new")) == (401, 200))
        keys.write_text("[a")
        server.signal(signal.SIGHUP)
        assert status("new") == 200
