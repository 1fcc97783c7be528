"""More connections than file descriptors: each request is answered or refused, without a delay."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chats import CHAT, HELLO
from tests.raw_http import connected
from tests.server_process import ServerProcess, server_process

BODY = json.dumps({"messages": HELLO, "max_tokens": 2}).encode()
ENDLESS = {"messages": HELLO, "logit_bias": {"7": -100}, "stream": True}


@contextlib.contextmanager
def process_with_descriptors(soft: int, hard: int, *options: str) -> Iterator[ServerProcess]:
    """Start a server with this limit of descriptors; wait until it serves."""
    limits = f"ulimit -Sn {soft}; ulimit -Hn {hard}"
    with server_process("--threads", "1", "--log-format", "text", *options, before=limits) as server:
        server.wait_for("print(answer")
        yield server


def idle_connections(stack: contextlib.ExitStack, url: str, count: int, sent: bytes) -> None:
    for _ in range(count):
        client = stack.enter_context(connected(url))
        with contextlib.suppress(ConnectionError):
            client.send(sent)


@pytest.mark.parametrize(
    "sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nX-Slow: ", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_more_idle_connections_than_descriptors_delay_nobody(sent: bytes) -> None:
    with process_with_descriptors(256, 256) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            idle_connections(stack, server.url, 100, sent)
            begun = time.monotonic()
            assert httpx.get(f"{server.url}/health", timeout=30).status_code == 200
            assert httpx.post(server.url + CHAT, content=BODY, timeout=30).status_code in (200, 503)
            assert time.monotonic() - begun < 5
        server.terminate()
        printed = server.printed()
    assert printed.count("The limit on file descriptors (256) allows 112 connections") == 1
    assert printed.count("closing idle ones") <= 1
    assert "Traceback" not in printed


def test_unfinished_tls_handshakes_delay_nobody(certificate: tuple[Path, Path]) -> None:
    options = ("--ssl-certfile", str(certificate[0]), "--ssl-keyfile", str(certificate[1]))
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    with process_with_descriptors(256, 256, *options) as server, contextlib.ExitStack() as stack:
        idle_connections(stack, server.url, 300, b"\x16\x03\x01")
        begun = time.monotonic()
        assert httpx.get(f"{server.url}/health", verify=trusted, timeout=30).status_code == 200
        assert time.monotonic() - begun < 5
        server.terminate()
        assert "Traceback" not in server.printed()


def test_more_requests_than_descriptors_are_refused_or_answered(tiny_model: Path) -> None:
    body = json.dumps(ENDLESS).encode()
    with process_with_descriptors(64, 64, "--model", str(tiny_model)) as server, contextlib.ExitStack() as stack:
        for _ in range(80):
            client = stack.enter_context(connected(server.url))
            client.post(CHAT, f"Content-Length: {len(body)}", body=body)
        assert httpx.get(f"{server.url}/health", timeout=30).status_code == 200
        stack.close()
        server.terminate()
        assert "Traceback" not in server.printed()


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    with process_with_descriptors(64, 1024, "--max-connections", "200") as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(server.url)) for _ in range(190)]
        for client in (idle[0], idle[-1]):
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer().status == 200
        server.terminate()
        assert "file descriptors" not in server.printed()
