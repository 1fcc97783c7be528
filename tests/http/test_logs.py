"""The server's log as an operator reads it: one line for each request, without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from tests.chats import CHAT
from tests.scraping import Scrape
from tests.serving import StartServer

SECRET = "a word that no log may hold"
HELLO = [{"role": "user", "content": SECRET}]
ENDLESS: dict[str, Any] = {"logit_bias": {"7": -100}}
Line = dict[str, Any]


class Logged:
    """A server whose log is a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = str(self.wait_for(lambda line: line["message"].startswith("Serving"))["facts"]["address"])

    def lines(self) -> list[Line]:
        complete, _, _ = self._path.read_text().rpartition("\n")  # the server may be writing another one
        return [json.loads(line) for line in complete.splitlines()]

    def wait_for(self, wanted: Callable[[Line], bool]) -> Line:
        give_up = time.monotonic() + 60
        while not (found := [line for line in self.lines() if wanted(line)]):
            assert time.monotonic() < give_up, self._path.read_text()
            time.sleep(0.05)
        return found[0]

    def told(self, request_id: str) -> Line:
        """The line about a request."""
        return self.wait_for(lambda line: line["logger"] == "server.requests" and line["request_id"] == request_id)

    def post(self, request_id: str, path: str = CHAT, **body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers={"X-Request-ID": request_id}, timeout=60)


@contextlib.contextmanager
def process(log: IO[str] | int, *options: str) -> Iterator[None]:
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--threads", "1", *options]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


@contextlib.contextmanager
def logging_to(path: Path, *options: str) -> Iterator[Logged]:
    with path.open("w") as log, process(log, *options):
        yield Logged(path)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    with logging_to(tmp_path_factory.mktemp("logs") / "log", "--model", str(tiny_model)) as logged:
        yield logged


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_line_with_what_it_took(server: Logged, stream: bool) -> None:
    server.post(f"mine-{stream}", messages=HELLO, max_tokens=7, stream=stream, **ENDLESS)
    line = server.told(f"mine-{stream}")
    expected = {"method": "POST", "route": CHAT, "status": 200, "finish": "length", "error": None, "key": None}
    assert line.items() >= (expected | {"level": "info", "model": "tiny-model", "completion_tokens": 7}).items()
    assert line["prompt_tokens"] > 0
    assert 0 <= line["queue_seconds"] <= line["ttft_seconds"] <= line["total_seconds"]
    assert len([one for one in server.lines() if one.get("request_id") == f"mine-{stream}"]) == 1


def test_a_refused_request_says_with_which_error(server: Logged) -> None:
    server.post("refused", messages=HELLO, model="another")
    assert server.told("refused").items() >= {("status", 404), ("finish", "error"), ("error", "model_not_found")}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_left_is_a_499_with_the_tokens_it_had(server: Logged, stream: bool) -> None:
    def tokens() -> float:
        return Scrape(server.url)("lfm_generation_tokens_total")

    before = tokens()
    body = {"messages": HELLO, "stream": stream, "max_tokens": 4000, **ENDLESS}
    async with httpx.AsyncClient(base_url=server.url, headers={"X-Request-ID": f"left-{stream}"}) as client:
        request = asyncio.create_task(client.post(CHAT, json=body, timeout=60))
        while tokens() < before + 10:
            await asyncio.sleep(0.01)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    line = await asyncio.to_thread(server.told, f"left-{stream}")
    assert line.items() >= {("status", 499), ("finish", "cancelled"), ("error", None)}
    assert line["completion_tokens"] >= 10


def test_every_line_of_a_request_says_its_id(server: Logged) -> None:
    pattern = {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?=a)b"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": pattern}}]
    server.post("loosened", messages=HELLO, tools=tools, max_tokens=3)
    server.told("loosened")
    assert [one["level"] for one in server.lines() if one.get("request_id") == "loosened"] == ["warning", "info"]


def test_probes_leave_no_line(server: Logged) -> None:
    for path in ("/health", "/ready", "/metrics", "/version"):
        httpx.get(server.url + path, headers={"X-Request-ID": f"probe{path}"})
    server.told("probe/version")
    assert [one["request_id"] for one in server.lines() if "probe" in one.get("request_id", "")] == ["probe/version"]


def test_prompts_are_not_logged_by_default(server: Logged) -> None:
    server.post("asked", messages=HELLO, max_tokens=3)
    server.post("wrong", messages=HELLO, temperature=SECRET)
    server.post("text", "/v1/completions", prompt=SECRET, max_tokens=3)
    server.told("text")
    assert SECRET not in json.dumps(server.lines())


def test_the_keys_name_is_logged_and_never_the_key(
    tiny_model: Path, tmp_path: Path, start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keys = tmp_path / "keys.toml"
    keys.write_text('[alice]\nkey = "sk-alice-4f1c"\n')
    server = start_server(model=str(tiny_model), threads=1, api_keys_file=keys)
    server.client.with_options(api_key="sk-alice-4f1c").models.list()
    server.wait_until(lambda: any(line.name == "server.requests" for line in caplog.records))
    (line,) = (line for line in caplog.records if line.name == "server.requests")
    assert line.__dict__["fields"]["key"] == "alice"
    assert "4f1c" not in str([vars(line) for line in caplog.records])


def test_log_prompts_logs_the_prompts(tiny_model: Path, tmp_path: Path) -> None:
    with logging_to(tmp_path / "log", "--model", str(tiny_model), "--log-prompts", "--log-level", "info") as server:
        server.post("chat", messages=HELLO, max_tokens=3)
        server.post("text", "/v1/completions", prompt=SECRET, max_tokens=3)
        assert json.loads(server.told("chat")["prompt"])[0].items() >= HELLO[0].items()
        assert SECRET in server.told("text")["prompt"]


def test_in_a_terminal_lines_are_for_people(tiny_model: Path) -> None:
    ours, theirs = pty.openpty()
    with process(theirs, "--model", str(tiny_model)):
        os.close(theirs)
        said = b""
        while b"Loading model.onnx" not in said:
            said += os.read(ours, 1000)
    os.close(ours)
    assert "{" not in said.decode()
    assert " INFO     Loading model.onnx with 1 threads" in said.decode()
