"""`lfm-serve bench` against this server, and against one that knows only OpenAI's fields."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.serving import Server

ROOT = Path(__file__).parents[2]
RUN = "from server.cli import main; sys.exit(main())"


def bench(*arguments: str, program: str = RUN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; {program}", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


class StrictEndpoint(BaseHTTPRequestHandler):
    """An endpoint with a key that answers two tokens, and rejects unknown fields as OpenAI does."""

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"data": [{"id": "strict"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"model", "messages", "max_tokens", "stream", "stream_options", "temperature", "top_p", "seed"}
        if (unknown := body.keys() - known) or body["stream_options"] != {"include_usage": True}:
            self._answer(400, json.dumps({"error": {"message": f"Unknown fields: {sorted(unknown)}"}}))
            return
        usage = {"prompt_tokens": 9, "completion_tokens": 2}
        events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": word}}]} for word in ("one", "two")]
        lines = [f"data: {json.dumps(event)}\n\n" for event in [*events, {"choices": [], "usage": usage}]]
        self._answer(200, "".join(lines) + "data: [DONE]\n\n")

    def _answer(self, status: int, text: str) -> None:
        status = status if self.headers["Authorization"] == "Bearer secret" else 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def strict() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), StrictEndpoint) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_a_question_is_answered_with_a_table_json_and_a_plot(demo: Server, tmp_path: Path) -> None:
    result = bench("--url", f"ours={demo.url}", "--only", "clients", "--rounds", "1", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "| 16 | ours |" in result.stdout
    assert "lfm2-demo on ours; measured from " in (tmp_path / "summary.md").read_text()
    assert [row[:2] for row in json.loads((tmp_path / "clients.json").read_text())["rows"]] == [
        [clients, "ours"] for clients in ("1", "4", "16")
    ]
    assert ElementTree.fromstring((tmp_path / "clients.svg").read_text()).tag.endswith("svg")


def test_a_server_that_knows_only_openais_fields_is_measured_without_matplotlib(strict: str, tmp_path: Path) -> None:
    program = f"sys.modules['matplotlib'] = None; {RUN}"
    options = ["--url", strict, "--api-key", "secret", "--only", "clients", "--rounds", "1", "--out", str(tmp_path)]
    result = bench(*options, program=program)
    assert result.returncode == 0, result.stderr
    assert "pip install 'lfm-serve[bench]'" in result.stderr
    assert strict.removeprefix("http://") in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"clients.json", "summary.md"}


def test_a_server_that_refuses_is_one_line(strict: str, tmp_path: Path) -> None:
    result = bench("--url", strict, "--api-key", "wrong", "--only", "clients", "--out", str(tmp_path))
    *_, line = result.stderr.splitlines()
    assert result.returncode == 1
    assert line.startswith(f"lfm-serve: {strict}/v1/models: 401 ")


def test_an_address_without_a_server_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    result = bench("--url", url, "--out", str(tmp_path))
    *_, line = result.stderr.splitlines()
    assert result.returncode == 1
    assert line.startswith(f"lfm-serve: {url}/v1 cannot be reached: ")
