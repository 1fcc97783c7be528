"""The command as a user runs it: its banner, its failed starts and its signals."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.errors import StartupError
from tests import models
from tests.server_process import server_process
from tests.serving import StartServer

BANNER_END = "print(answer"


def test_the_banner_says_what_is_served_and_what_to_try() -> None:
    with server_process("--threads", "1", "--log-format", "text") as server:
        banner = server.wait_for(BANNER_END)
        assert "BUILT-IN DEMO MODEL" in banner
        assert "Default sampling: temperature 0.3" in banner
        assert f"curl {server.url}/v1/chat/completions" in banner
        assert f'OpenAI(base_url="{server.url}/v1"' in banner


def test_only_the_built_in_model_is_called_built_in(tiny_model: Path) -> None:
    with server_process("--model", str(tiny_model), "--log-format", "text") as server:
        banner = server.wait_for(BANNER_END)
        assert "BUILT-IN" not in banner
        assert "Serving tiny-model (fp32)" in banner
        assert "Family member: LFM2\n" in banner


def test_the_banner_of_a_base_model_tries_a_text(tmp_path: Path) -> None:
    folder = models.build("dense", tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with server_process("--model", str(folder), "--log-format", "text") as server:
        banner = server.wait_for(BANNER_END)
        assert f"curl {server.url}/v1/completions" in banner
        assert "client.completions.create" in banner


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_answers_finish(tiny_model: Path, how: signal.Signals) -> None:
    with server_process("--model", str(tiny_model)) as server:
        server.wait_until_ready()
        with server.stream(max_tokens=200) as lines:
            server.signal(how)
            assert [*lines][-1] == "data: [DONE]"
        assert server.exit_code() == 0
        assert "Traceback" not in server.printed()


def failed_start(*options: str) -> list[str]:
    """The lines that a start prints which ends with code 1."""
    command = [sys.executable, "-m", "server", "serve", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    return result.stderr.splitlines()


both_formats = pytest.mark.parametrize("log_format", ["text", "json"])


@both_formats
def test_a_taken_port_is_one_line(log_format: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert failed_start("--port", port, "--log-format", log_format) == [
            f"lfm-serve: Cannot listen on 127.0.0.1, port {port}: Address already in use. "
            "Choose another address with --host or another port with --port."
        ]


@both_formats
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "nosuch"], "nosuch is neither a folder nor the name of a model on the hub"),
        (["--model", "{tmp}"], "{tmp} "),
        (["--ssl-certfile", "{tmp}/empty.pem"], "--ssl-certfile, --ssl-keyfile: "),
        (["--api-keys-file", "{tmp}/empty.pem"], "--api-keys-file"),
    ],
)
def test_a_failed_start_prints_its_reason_and_nothing_else(
    tmp_path: Path, options: list[str], reason: str, log_format: str
) -> None:
    (tmp_path / "empty.pem").touch()
    given = [option.format(tmp=tmp_path) for option in options]
    (line,) = failed_start("--port", "0", "--log-format", log_format, *given)
    assert line.startswith(f"lfm-serve: {reason.format(tmp=tmp_path)}")


@both_formats
def test_a_model_that_cannot_be_loaded_ends_the_start_with_its_reason(tmp_path: Path, log_format: str) -> None:
    model = models.build("onnx-community", tmp_path / "model")
    (model / "onnx" / "model.onnx_data").write_bytes(b"")
    *progress, reason = failed_start("--port", "0", "--log-format", log_format, "--model", str(model))
    assert all("Loading model.onnx" in line for line in progress)
    assert reason.startswith("lfm-serve: ")


SLOW_START = """
import time
from server.loading import load as loading
from server.cli import main
loading.open_sessions = lambda *_: time.sleep(600)
main()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_is_not_done(how: signal.Signals) -> None:
    command = [sys.executable, "-c", SLOW_START, "serve", "--port", "0", "--log-format", "text"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            while "Loading" not in process.stdout.readline():
                assert process.poll() is None
            process.send_signal(how)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_a_server_whose_model_cannot_be_served_does_not_start(start_server: StartServer, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="nowhere"):
        start_server(model=str(tmp_path / "nowhere"))


def test_a_longer_context_than_the_models_is_refused_at_the_start(start_server: StartServer) -> None:
    with pytest.raises(StartupError, match="--max-model-len is 5000, but this model supports at most 4096 tokens"):
        start_server(max_model_len=5000)
