"""What deploy/nginx does with streams, bodies, paths and ids, and with replicas that are silent, busy or away."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.processes import free_port
from server.settings import Settings
from tests import fleet
from tests.fleet import Fleet
from tests.raw_http import connected
from tests.serving import serving
from tests.waiting import wait_until

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def body(**changes: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "What are you?"}], "max_tokens": 8, **changes}


def visited(nginx: fleet.Service, path: str = CHAT) -> list[str]:
    """Which replicas each request to the chat went to, in the log's words."""
    lines = map(json.loads, nginx.log.with_name("access.log").read_text().splitlines())
    return [line["replicas"] for line in lines if path in line["request"]]


def test_the_sdk_talks_through_nginx(shared: Fleet) -> None:
    client = shared.client()
    answer = client.chat.completions.create(model="lfm2-demo", messages=body()["messages"])
    assert answer.choices[0].message.content


INSIDE = ("/metrics", "/metrics/", "//metrics", "/v1/%2e%2e/metrics", "/v1/..%2fmetrics", "/", "/playground/main.js")


@pytest.mark.parametrize("path", INSIDE)
def test_what_is_not_the_api_stays_inside(shared: Fleet, path: str) -> None:
    answer = httpx.get(shared.nginx.url + path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/ready", "/version", "/openapi.json", "/docs"])
def test_the_api_and_its_health_are_there(shared: Fleet, path: str) -> None:
    assert httpx.get(shared.nginx.url + path).status_code == 200


def test_a_requests_id_goes_through_both_and_comes_back(shared: Fleet) -> None:
    answer = httpx.post(shared.nginx.url + CHAT, json=body(), headers={"X-Request-ID": "mine-1"})
    assert answer.headers.get_list("X-Request-ID") == ["mine-1"]


def test_a_request_without_an_id_gets_one(shared: Fleet) -> None:
    ids = [httpx.get(shared.nginx.url + path).headers["X-Request-ID"] for path in ("/health", "/health", "/nothing")]
    assert len(set(ids)) == 3


def test_a_body_over_the_limit_is_an_error_like_openais(shared: Fleet) -> None:
    answer = httpx.post(shared.nginx.url + CHAT, content=b" " * (2 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_a_sessions_requests_go_to_one_replica(shared: Fleet, folder: Path) -> None:
    with own_nginx(folder, [each.address for each in shared.replicas], balance="session-affinity") as nginx:
        for session in range(8):
            for _ in range(3):
                headers = {"X-Session-ID": f"session {session}"}
                httpx.post(nginx.url + CHAT, json=body(max_tokens=1), headers=headers).raise_for_status()
        went = visited(nginx)
    assert all(len({*went[first : first + 3]}) == 1 for first in range(0, 24, 3))
    assert len({*went}) == 2


def test_nginxs_limits_fit_the_servers() -> None:
    """By the directives that stand once in the file."""
    text = (fleet.DEPLOY / "nginx" / "nginx.conf").read_text()
    upstream = text[text.index("upstream replicas") : text.index("server {")]
    settings = Settings()
    assert seconds(upstream, "keepalive_timeout") < settings.keep_alive
    assert seconds(text, "proxy_read_timeout") > settings.request_timeout
    assert "client_max_body_size 2m;" in text
    assert settings.max_body == 2 * 1024 * 1024


def seconds(text: str, directive: str) -> int:
    found = re.search(rf"^ *{directive} (\d+)s;", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


class Silent(socketserver.BaseRequestHandler):
    """Takes a request and sends no answer."""

    requests: list[bytes]

    def handle(self) -> None:
        while received := self.request.recv(65536):
            if received.startswith(b"POST"):
                self.requests.append(received)


class OneAtATime(socketserver.BaseRequestHandler):
    """A stream whose second event is sent once the first has been seen at the other end."""

    requests: list[bytes]
    seen = threading.Event()

    def handle(self) -> None:
        self.requests.append(self.request.recv(65536))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        self.request.sendall(head + b"data: 1\n\n")
        assert self.seen.wait(30)
        self.request.sendall(b"data: 2\n\n")


class Draining(socketserver.BaseRequestHandler):
    """503, always."""

    requests: list[bytes]

    def handle(self) -> None:
        self.requests.append(self.request.recv(65536))
        self.request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")


@contextlib.contextmanager
def listening(handler: type[Silent | OneAtATime | Draining], count: int = 1) -> Iterator[tuple[list[str], list[bytes]]]:
    """So many listeners: their addresses, and the requests that came."""
    requests: list[bytes] = []
    own = type("Own", (handler,), {"requests": requests})
    with contextlib.ExitStack() as running:
        addresses = []
        for _ in range(count):
            server = running.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), own))
            server.daemon_threads = True
            running.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            addresses.append("{}:{}".format(*server.server_address))
        yield addresses, requests


@contextlib.contextmanager
def own_nginx(folder: Path, replicas: list[str], **options: str) -> Iterator[fleet.Service]:
    service = fleet.nginx(folder, replicas, **options)
    try:
        wait_until(lambda: fleet.answers(service.url + "/", 404), fleet.START_SECONDS)
        yield service
    finally:
        service.stop()


def test_an_event_is_passed_on_before_the_next_one_comes(folder: Path) -> None:
    with (
        listening(OneAtATime, count=2) as (addresses, _),
        own_nginx(folder, addresses) as nginx,
        httpx.stream("POST", nginx.url + CHAT, json=body(), timeout=30) as answer,
    ):
        pieces = answer.iter_raw()
        first = next(pieces)
        OneAtATime.seen.set()
        assert [first, *pieces] == [b"data: 1\n\n", b"data: 2\n\n"]


def test_a_post_is_never_repeated_after_a_time_out(folder: Path) -> None:
    with (
        listening(Silent, count=2) as (addresses, requests),
        own_nginx(folder, addresses, proxy_read_timeout="1s") as nginx,
    ):
        answer = httpx.post(nginx.url + CHAT, json=body(), timeout=30)
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "timeout_error"
    assert answer.headers["X-Should-Retry"] == "false"
    assert len(requests) == 1


def test_a_post_that_a_draining_replica_refuses_goes_to_the_next(shared: Fleet, folder: Path) -> None:
    with (
        listening(Draining) as ([draining], requests),
        own_nginx(folder, [draining, shared.replicas[1].address]) as nginx,
    ):
        for _ in range(4):
            httpx.post(nginx.url + CHAT, json=body(max_tokens=1), timeout=30).raise_for_status()
        assert any(draining in went for went in visited(nginx))
    assert len(requests) == 1, "one that has failed is left alone"


def test_the_last_replicas_answer_passes_if_all_drain(folder: Path) -> None:
    with listening(Draining, count=2) as (addresses, _), own_nginx(folder, addresses) as nginx:
        answer = httpx.post(nginx.url + CHAT, json=body())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")


@contextlib.contextmanager
def full() -> Iterator[str]:
    """The address of a server whose queue has no room: one sequence runs, and one waits."""
    endless = json.dumps(body(max_tokens=4000, stream=True, ignore_eos=True)).encode()
    with serving(Settings(max_seqs=1, max_waiting=1, threads=1)) as server, contextlib.ExitStack() as clients:
        for waiting in range(2):
            client = clients.enter_context(connected(server.url))
            client.post(CHAT, f"Content-Length: {len(endless)}", body=endless)
            server.wait_until(lambda: server.engine.running == 1)
            server.wait_until(lambda expected=waiting: server.engine.waiting == expected)
        yield server.url.removeprefix("http://")


def test_a_message_for_a_full_replica_goes_to_the_next_and_the_full_one_stays(shared: Fleet, folder: Path) -> None:
    with full() as address, own_nginx(folder, [address, shared.replicas[1].address]) as nginx:
        for _ in range(4):
            answer = httpx.post(nginx.url + MESSAGES, json=body(max_tokens=1), timeout=30)
            assert answer.status_code == 200, answer.text
        tries = [went for went in visited(nginx, MESSAGES) if address in went]
    assert len(tries) > 1, "a full replica is not one that has failed"
    assert all(went == f"{address}, {shared.replicas[1].address}" for went in tries)


def test_a_message_is_anthropics_529_if_all_replicas_are_full(folder: Path) -> None:
    with full() as address:
        own = httpx.post(f"http://{address}{MESSAGES}", json=body(max_tokens=1))
        with own_nginx(folder, [address] * 2) as nginx:
            answer = httpx.post(nginx.url + MESSAGES, json=body(max_tokens=1), headers={"X-Request-ID": "mine-1"})
    for each in (own, answer):
        assert (each.status_code, each.json()["error"]["type"]) == (529, "overloaded_error")
        assert int(each.headers["Retry-After"]) > 0
        assert each.headers.get_list("X-Request-ID") == each.headers.get_list("Request-ID")
    assert answer.json()["request_id"] == "mine-1"


def test_nginxs_own_errors_on_the_messages_are_like_anthropics(shared: Fleet) -> None:
    answer = httpx.post(shared.nginx.url + MESSAGES, content=b" " * (2 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "invalid_request_error")
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_a_replica_that_takes_no_connection_is_an_error_with_a_time_to_retry(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as fillers:
        for _ in range(4):  # more than the queue holds: the system drops later connections
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        with own_nginx(folder, ["{}:{}".format(*full.getsockname())] * 2) as nginx:
            answer = httpx.post(nginx.url + CHAT, json=body(), timeout=30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "X-Should-Retry" not in answer.headers
    assert answer.json()["error"]["code"] == "no_replica"


def test_no_replica_at_all_is_an_error_with_a_time_to_retry(folder: Path) -> None:
    nowhere = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with own_nginx(folder, nowhere) as nginx:
        for _ in range(2):
            answer = httpx.post(nginx.url + CHAT, json=body())
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert answer.json()["error"]["code"] == "no_replica"
