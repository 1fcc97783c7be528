"""Slow, broken and hostile clients get an error or are cut off, and delay no other."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
import time
from pathlib import Path

import httpx
import pytest

from tests.chats import CHAT, HELLO
from tests.errors import error_of
from tests.raw_http import connected
from tests.serving import Server, StartServer


@pytest.fixture
def impatient(tiny_model: Path, start_server: StartServer) -> Server:
    return start_server(
        model=str(tiny_model), max_seqs=1, threads=1, read_timeout=0.3, client_idle_timeout=0.3, max_connections=4
    )


def works(server: Server) -> bool:
    return server.chat(messages=HELLO, max_tokens=1).status_code == 200


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(tiny: Server) -> None:
    with connected(tiny.url) as client:
        client.post(CHAT, "Content-Length: 100000000")
        answer = client.answer()
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert answer.error["message"] == "The request body is too large: the limit is 2,097,152 bytes."


def test_a_body_that_becomes_too_large_is_refused_while_it_comes(tiny: Server) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connected(tiny.url) as client:
        client.post(CHAT, "Transfer-Encoding: chunked")
        for _ in range(33):
            client.send(piece)
        assert client.answer().status == 413


def test_a_refused_body_of_a_hundred_megabytes_is_read_to_its_end(tiny: Server) -> None:
    with httpx.Client(timeout=60) as client:
        error_of(client.post(tiny.url + CHAT, content=b" " * 100_000_000), 413)
        assert client.get(f"{tiny.url}/health").status_code == 200


def test_a_slow_body_is_a_408(impatient: Server) -> None:
    with connected(impatient.url) as client:
        client.post(CHAT, "Content-Length: 100", body=b'{"messages": [')
        answer = client.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_too_slow")
        assert answer.error["message"] == "The request body did not arrive within 0.3 seconds."
        assert client.is_cut()
    assert works(impatient)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nX-Long: "])
def test_a_slow_head_is_cut(impatient: Server, sent: bytes) -> None:
    with connected(impatient.url) as client:
        client.send(sent)
        assert client.is_cut()
    assert works(impatient)


def test_the_rest_of_a_refused_body_has_a_time_limit(impatient: Server) -> None:
    with connected(impatient.url) as client:
        client.post(CHAT, "Content-Length: 100000000")
        assert client.answer().status == 413
        assert client.is_cut()


def test_a_head_that_grows_too_large_is_refused(tiny: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with connected(tiny.url) as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nX-Long: " + b"a" * 70_000)
        answer = client.answer()
    assert answer.status == 431
    assert answer.error["message"] == "The request's headers are too large: the limit is 65,536 bytes."
    assert "Refused a request from 127.0.0.1 with status 431: The request's headers are too large" in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
)
def test_bytes_that_are_not_http_get_an_error_of_the_usual_shape(tiny: Server, sent: bytes) -> None:
    with connected(tiny.url) as client:
        client.send(sent)
        answer = client.answer()
        assert answer.status == 400
        assert answer.error.keys() == {"message", "type", "param", "code"}
        assert client.is_cut()
    assert works(tiny)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', "invalid_json"),
        (b'{"messages": [], "temperature": NaN}', "invalid_json"),
        (b'{"messages": [], "temperature": Infinity}', "invalid_json"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e400}', None),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e400}', None),
        (b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}", None),
        (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"messages": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"}", "invalid_json"),
        (b'{"messages": [' + b'{"role": "user", "content": "x"},' * 60_000 + b"{}]}", "invalid_value"),
    ],
)
def test_a_hostile_body_is_a_400(tiny: Server, body: bytes, code: str | None) -> None:
    error = error_of(httpx.post(tiny.url + CHAT, content=body, timeout=60), 400)
    assert code in (None, error["code"])
    assert len(error["message"]) < 1000


def test_connections_beyond_the_limit_get_a_503_and_are_closed(impatient: Server) -> None:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(connected(impatient.url)) for _ in range(5)]
        with connected(impatient.url) as client:
            client.post(CHAT, "Content-Length: 2", body=b"{}")
            answer = client.answer()
            assert (answer.status, answer.error["code"]) == (503, "overloaded")
            assert "at most 4 connections (--max-connections)" in answer.error["message"]
            assert int(answer.headers["retry-after"]) >= 1
            assert client.is_cut()
        assert all(other.is_cut() for other in others)
    impatient.wait_until(lambda: works(impatient))


def test_a_client_that_reads_nothing_is_cut_and_holds_nobody_up(impatient: Server) -> None:
    told = {"messages": HELLO, "logit_bias": {"7": -100}, "stream": True, "logprobs": True, "top_logprobs": 20}
    body = json.dumps(told).encode()
    with connected(impatient.url, receive_buffer=4096) as client:
        client.post(CHAT, f"Content-Length: {len(body)}", body=body)
        impatient.wait_until(lambda: impatient.engine.running == 1)
        impatient.wait_until(impatient.is_idle)  # long before the client would have read it
        read = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := client.socket.recv(2**20):
                read += piece
    assert read.startswith(b"HTTP/1.1 200 OK")
    assert b"[DONE]" not in read
    assert works(impatient)


def test_a_client_that_reads_slowly_is_not_cut(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), threads=1, client_idle_timeout=1)
    body = json.dumps({"prompt": "a b c d " * 200_000, "return_token_strs": True}).encode()
    with connected(server.url, receive_buffer=65536) as client:
        client.post("/tokenize", f"Content-Length: {len(body)}", "Connection: close", body=body)
        read, begun = bytearray(), time.monotonic()
        while piece := client.socket.recv(65536):
            read += piece
            if time.monotonic() < begun + 3:
                time.sleep(0.05)
    head, _, answer = bytes(read).partition(b"\r\n\r\n")
    assert f"content-length: {len(answer)}\r\n".encode() in head + b"\r\n"


def test_https_works_with_a_self_signed_certificate(
    certificate: tuple[Path, Path], tiny_model: Path, start_server: StartServer
) -> None:
    file, key = certificate
    server = start_server(model=str(tiny_model), threads=1, ssl_certfile=file, ssl_keyfile=key)
    url = server.url.replace("http:", "https:")
    trusted = ssl.create_default_context(cafile=str(file))
    assert httpx.get(f"{url}/ready", verify=trusted).json() == {"status": "ready"}


def test_a_slow_tls_handshake_is_cut(
    certificate: tuple[Path, Path], tiny_model: Path, start_server: StartServer
) -> None:
    file, key = certificate
    server = start_server(model=str(tiny_model), threads=1, ssl_certfile=file, ssl_keyfile=key, read_timeout=0.3)
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
        with connected(server.url) as client:
            client.send(sent)
            assert client.is_cut()
