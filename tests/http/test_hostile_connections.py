"""Endless trailers, pipelines, upgrade offers and floods cost other clients nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.chats import CHAT, HELLO
from tests.raw_http import RawClient, connected
from tests.serving import Server, StartServer

BODY = json.dumps({"messages": HELLO, "max_tokens": 2}).encode()
ENDLESS = {"messages": HELLO, "logit_bias": {"7": -100}, "stream": True}
PIECE = 2**16
CHUNKED = "Transfer-Encoding: chunked"


def send_until_refused(client: RawClient, piece: bytes, most: int) -> int:
    """Send `piece` until the server closes the connection; return the bytes sent."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most:
            client.send(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"2\r\n{}\r\n0\r\n", b"X-Trailer: 1\r\n" * 1000),
        (b"2\r\n{}\r\n0\r\nX-Trailer: ", b"a" * PIECE),
        (b"2\r\n{}\r\n0\r\n", b"a" * PIECE),
        (b"2;extension=", b"a" * PIECE),
        (b"2\r\n{}\r\n0;extension=", b"a" * PIECE),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/health", "/nowhere"])
def test_endless_trailers_close_the_connection(tiny: Server, path: str, start: bytes, piece: bytes) -> None:
    with connected(tiny.url) as client:
        client.post(path, CHUNKED)
        client.send(start)
        assert send_until_refused(client, piece, most=2**27) < 2**27
    assert httpx.get(f"{tiny.url}/health").status_code == 200


def test_trailers_above_the_limit_are_a_431(tiny: Server) -> None:
    with connected(tiny.url) as client:
        client.post(CHAT, CHUNKED, body=b"2\r\n{}\r\n0\r\nX-Trailer: " + b"a" * 100_000)
        answer = client.answer()
        assert answer.status == 431
        assert "chunk headers or trailers are too large: the limit is 65,536 bytes" in answer.error["message"]
        assert client.is_cut()


def test_small_trailers_are_ignored_and_are_no_headers(tiny: Server) -> None:
    chunk = b"%x\r\n%b\r\n0\r\nContent-Encoding: gzip\r\nX-Request-ID: from-a-trailer\r\n\r\n" % (len(BODY), BODY)
    with connected(tiny.url) as client:
        for _ in range(3):
            client.post(CHAT, CHUNKED, body=chunk)
            answer = client.answer()
            assert answer.status == 200
            assert answer.headers["x-request-id"] != "from-a-trailer"


def test_many_small_chunks_are_no_overhead(tiny: Server) -> None:
    body = json.dumps({"messages": HELLO, "max_tokens": 1, "user": "a" * 40_000}).encode()
    with connected(tiny.url) as client:
        client.post(CHAT, CHUNKED, body=b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert client.answer().status == 200


def test_trailers_that_trickle_in_are_cut(tiny_model: Path, start_server: StartServer) -> None:
    server = start_server(model=str(tiny_model), threads=1, read_timeout=0.3)
    for path in (CHAT, "/health"):
        with connected(server.url) as client:
            client.post(path, CHUNKED, body=b"2\r\n{}\r\n0\r\nX-Trailer: ")
            assert client.answer().status in (200, 405, 408)
            assert client.is_cut()


def test_too_many_pipelined_requests_close_the_connection(tiny: Server) -> None:
    with connected(tiny.url) as client:
        body = json.dumps(ENDLESS).encode()
        client.post(CHAT, f"Content-Length: {len(body)}", body=body)
        tiny.wait_until(lambda: tiny.engine.running == 1)
        assert send_until_refused(client, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, most=2**26) < 2**26
        tiny.wait_until(tiny.is_idle)


def test_a_few_pipelined_requests_are_answered_in_order(tiny: Server) -> None:
    with connected(tiny.url) as client:
        client.send(b"".join(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: %d\r\n\r\n" % i for i in range(60)))
        assert [client.answer().headers["x-request-id"] for _ in range(60)] == [str(i) for i in range(60)]


@pytest.mark.parametrize("after", [b"", b"\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /hea"])
def test_a_client_that_leaves_ends_its_generation_whatever_it_has_pipelined(tiny: Server, after: bytes) -> None:
    body = json.dumps(ENDLESS | {"stream": False}).encode()
    with connected(tiny.url) as client:
        client.post(CHAT, f"Content-Length: {len(body)}", body=body + after)
        tiny.wait_until(lambda: tiny.engine.running == 1)
    tiny.wait_until(tiny.is_idle, seconds=5)


@pytest.mark.parametrize("after", [b"\r\n", b"GET /hea"])
def test_bytes_after_a_request_do_not_cut_its_answer(tiny_model: Path, start_server: StartServer, after: bytes) -> None:
    server = start_server(model=str(tiny_model), threads=1, read_timeout=0.3, client_idle_timeout=0.3)
    body = json.dumps(ENDLESS | {"max_tokens": 1200}).encode()
    with connected(server.url) as client:
        client.post(CHAT, f"Content-Length: {len(body)}", "Connection: close", body=body + after)
        begun, read = time.monotonic(), b""
        while piece := client.socket.recv(2**16):
            read += piece
    assert b"data: [DONE]" in read
    assert time.monotonic() - begun > 0.3


OFFERS = [
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
    ("Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13"),
    ("Connection: upgrade", "Upgrade: TLS/1.0, h2c"),
]


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_to_upgrade_is_ignored(tiny: Server, offer: tuple[str, ...]) -> None:
    with connected(tiny.url) as client:
        for _ in range(2):
            client.post(CHAT, *offer, f"Content-Length: {len(BODY)}", "X-Request-ID: mine", body=BODY)
            answer = client.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (200, "mine")
            assert "upgrade" not in answer.headers
            client.post(CHAT, *offer, CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
            assert client.answer().status == 200
        client.send(f"GET /health HTTP/1.1\r\nHost: x\r\n{offer[0]}\r\n{offer[1]}\r\n\r\n".encode())
        assert client.answer().status == 200


def test_an_offer_to_upgrade_that_arrives_byte_by_byte_is_ignored(tiny: Server) -> None:
    head = "\r\n".join([f"POST {CHAT} HTTP/1.1", "Host: test", *OFFERS[0], f"Content-Length: {len(BODY)}", "", ""])
    with connected(tiny.url) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head.encode() + BODY:
            client.send(bytes([byte]))
        assert client.answer().status == 200


def test_an_offer_to_upgrade_hides_no_second_length(tiny: Server) -> None:
    with connected(tiny.url) as client:
        client.post(CHAT, *OFFERS[0], "Content-Length: 5", CHUNKED, body=b"0\r\n\r\n")
        assert client.answer().status == 400
        assert client.is_cut()


def test_connect_is_refused(tiny: Server) -> None:
    with connected(tiny.url) as client:
        client.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\nhello")
        assert client.answer().status == 400
        assert client.is_cut()


def http_1_0(server: Server, request: str, body: bytes = b"") -> tuple[dict[str, str], bytes]:
    """Send an HTTP/1.0 request; return the headers and what followed them until the connection's end."""
    with connected(server.url) as client:
        client.send(request.encode() + body)
        read = b""
        while piece := client.socket.recv(2**16):
            read += piece
    head, _, rest = read.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, rest


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_a_stream_to_an_http_1_0_client_ends_with_the_connection(tiny: Server, connection: str) -> None:
    body = json.dumps(ENDLESS | {"max_tokens": 5}).encode()
    headers, rest = http_1_0(tiny, f"POST {CHAT} HTTP/1.0\r\n{connection}Content-Length: {len(body)}\r\n\r\n", body)
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"
    assert rest.startswith(b"data: {")
    assert rest.endswith(b"data: [DONE]\n\n")


def test_a_whole_answer_to_an_http_1_0_client_has_its_length(tiny: Server) -> None:
    headers, rest = http_1_0(tiny, f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(BODY)}\r\n\r\n", BODY)
    assert headers["content-length"] == str(len(rest))
    assert json.loads(rest)["object"] == "chat.completion"
    headers, rest = http_1_0(tiny, "GET /openapi.json HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in headers
    assert json.loads(rest)["openapi"]


def test_floods_do_not_delay_health_checks(tiny: Server) -> None:
    floods = [b"1\r\n \r\n" * 10_000, b"0\r\nX: " + b"a" * PIECE, b"1;" + b"a" * PIECE]
    give_up = time.monotonic() + 2

    def flood(piece: bytes) -> None:
        while time.monotonic() < give_up:
            with connected(tiny.url) as client, contextlib.suppress(ConnectionError):
                client.post(CHAT, CHUNKED)
                while time.monotonic() < give_up:
                    client.send(piece)

    with ThreadPoolExecutor(len(floods)) as pool:
        running = [pool.submit(flood, piece) for piece in floods]
        while time.monotonic() < give_up:
            begun = time.monotonic()
            assert httpx.get(f"{tiny.url}/health", timeout=30).status_code == 200
            assert time.monotonic() - begun < 3
    assert all(done.exception() is None for done in running)
