"""The server that `lfm-serve chat` starts for itself."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.pseudo_terminal import CTRL_C, CTRL_D, PROMPT, Terminal, terminal
from tests.waiting import wait_until

pytest.importorskip("prompt_toolkit", reason="the extra chat is not installed")


def port_of(chat: Terminal) -> int:
    """Wait for the chat's server, and return its port."""
    found = re.search(r"on http://127\.0\.0\.1:(\d+)/v1", chat.expect("Ctrl-D leaves."))
    assert found is not None
    return int(found[1])


def is_closed(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_with_a_key_ends_with_the_chat(tmp_path: Path) -> None:
    with terminal(tmp_path, "chat", "--threads", "1", variables={"LFM_API_KEY": "secret", "LFM_PORT": "1"}) as chat:
        chat.expect("This is the built-in demo model")
        port = port_of(chat)
        (tmp_path / "ok.json").write_text('{"const": "ok"}')
        chat.enter(f"/schema {tmp_path}/ok.json", "Answers match the schema.")
        chat.enter("What are you?", '"ok"')
        with terminal(tmp_path, "chat", "--url", f"http://127.0.0.1:{port}", "--api-key", "wrong") as other:
            other.expect("lfm-serve: 401 Unauthorized: ")
            other.expect(" (request ")
            assert other.wait() == 1
        variables = {"OPENAI_API_KEY": "secret"}
        with terminal(tmp_path, "chat", "--url", f"http://127.0.0.1:{port}", variables=variables) as other:
            other.expect(f"lfm2-demo on http://127.0.0.1:{port}/v1.")
        chat.expect(PROMPT)
        chat.send(CTRL_D)
        assert chat.wait() == 0
        assert is_closed(port)


def test_the_server_ends_even_if_the_chat_is_killed(tmp_path: Path) -> None:
    with terminal(tmp_path, "chat", "--threads", "1") as chat:
        port = port_of(chat)
        os.kill(chat.process.pid, signal.SIGKILL)
        wait_until(lambda: is_closed(port))


def test_a_server_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    with terminal(tmp_path, "chat", "--model", "nosuch") as chat:
        chat.expect("lfm-serve: The server did not start: nosuch is neither a folder nor")
        assert chat.wait() == 1


def test_an_address_without_a_server_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with terminal(tmp_path, "chat", "--url", f"http://127.0.0.1:{port}") as chat:
        chat.expect(f"lfm-serve: http://127.0.0.1:{port}/v1 cannot be reached: ")
        assert chat.wait() == 1


def test_ctrl_c_ends_a_start(tmp_path: Path) -> None:
    with terminal(tmp_path, "chat", "--threads", "1") as chat:
        chat.expect("Starting the server")
        chat.send(CTRL_C)
        assert chat.wait() in (130, -signal.SIGINT)
