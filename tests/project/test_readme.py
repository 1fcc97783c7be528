"""What the README says is so: its examples run against the built-in model, its options are those there are."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
CURL = re.findall(r"^    (curl .*?[^\\])\n", README, re.DOTALL | re.MULTILINE)
COMMAND = [sys.executable, "-c", "import sys; from server.cli import main; sys.exit(main())"]


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LFM_")} | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def flags(*command: str) -> set[str]:
    """The options that a command's help lists."""
    result = run(*COMMAND, *command, "--help", COLUMNS="200", NO_COLOR="1")
    assert result.returncode == 0, result.stderr
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", result.stdout)) - {"--help"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address (host:port) of a server started as `make serve` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = tmp_path_factory.mktemp("readme") / "log"
    with log.open("w") as output:
        server = subprocess.Popen([*COMMAND, "serve", "--port", port], cwd=ROOT, stdout=output, stderr=output)
        try:
            until_ready(server, f"http://127.0.0.1:{port}/ready", log)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5)
            return
        time.sleep(0.1)
    pytest.fail(f"the server did not become ready:\n{log.read_text()}")


def test_the_options_table_lists_the_options_there_are_with_their_variables() -> None:
    rows = dict(re.findall(r"^\| `(--[a-z-]+)`[^|]*\| `(LFM_[A-Z_]+)` \|", README, re.MULTILINE))
    assert rows.keys() == flags("serve")
    assert all(variable == "LFM_" + flag[2:].replace("-", "_").upper() for flag, variable in rows.items())


@pytest.mark.parametrize("line", re.findall(r"^    (?:\w+=\S+ )*\S*lfm-serve .*$", README, re.MULTILINE))
def test_a_command_line_uses_options_there_are(line: str) -> None:
    command = re.search(r"lfm-serve (serve|export)", line)
    assert set(re.findall(r"--[a-z][a-z-]*", line)) <= flags(command[1] if command else "serve")


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs_and_prints_an_answer(code: str, address: str) -> None:
    result = run(sys.executable, "-c", code.replace("127.0.0.1:8000", address))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_tool_example_answers_with_the_tools_result(address: str) -> None:
    (code,) = (code for code in EXAMPLES if "get_weather" in code)
    assert "21" in run(sys.executable, "-c", code.replace("127.0.0.1:8000", address)).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", CURL)
def test_a_curl_line_gets_an_answer(line: str, address: str) -> None:
    result = run("sh", "-c", line.replace("127.0.0.1:8000", address))
    assert '"object":"chat.completion"' in result.stdout.replace(": ", ":")


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_a_link_leads_to_a_file_of_the_project(target: str) -> None:
    assert (ROOT / target).is_file()
