"""HEAD, preflights from private networks, redirects and content encodings."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import httpx
import pytest

from server.settings import Settings
from tests.chats import CHAT, HELLO
from tests.errors import error_of
from tests.raw_http import connected
from tests.serving import Server, serving

BODY = json.dumps({"messages": HELLO, "max_tokens": 1}).encode()
APP = "http://app.example"


@pytest.fixture(scope="module", params=[(APP, "https://b.example"), ("*",)], ids=["named", "all"])
def cors(request: pytest.FixtureRequest) -> Iterator[tuple[Server, bool]]:
    """A server with CORS, and whether its origins are named."""
    with serving(Settings(threads=1, cors_origin=request.param)) as server:
        yield server, request.param != ("*",)


@pytest.mark.parametrize(
    "path",
    ["/health", "/ready", "/version", "/metrics", "/v1/models", "/v1/models/tiny-model", "/openapi.json", "/docs"],
)
def test_head_is_get_without_a_body(tiny: Server, path: str) -> None:
    get, head = httpx.get(tiny.url + path), httpx.head(tiny.url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # its length changes
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(("path", "status"), [(CHAT, 405), ("/nowhere", 404), ("/v1/models/nosuch", 404)])
def test_head_elsewhere_has_the_status_of_get(tiny: Server, path: str, status: int) -> None:
    assert (httpx.get(tiny.url + path).status_code, httpx.head(tiny.url + path).status_code) == (status, status)


def test_a_connection_goes_on_after_head(tiny: Server) -> None:
    with connected(tiny.url) as client:
        client.send(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.head()[0] == 200
        assert b"version" in client.answer().body


def preflight(server: Server, origin: str, **headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return httpx.options(server.url + CHAT, headers=asked)


PRIVATE = {"Access_Control_Request_Private_Network": "true"}
ALLOWED = "access-control-allow-private-network"


def test_named_origins_may_call_from_a_public_network(cors: tuple[Server, bool]) -> None:
    server, named = cors
    answer = preflight(server, APP, **PRIVATE)
    assert (answer.status_code, answer.headers.get(ALLOWED)) == ((200, "true") if named else (400, None))
    assert answer.headers["access-control-allow-origin"] == (APP if named else "*")
    answer = preflight(server, APP, Access_Control_Request_Headers="authorization, content-type")
    assert (answer.status_code, answer.headers.get(ALLOWED)) == (200, None)


def test_a_page_of_another_origin_may_call_only_if_it_is_allowed(tiny: Server, cors: tuple[Server, bool]) -> None:
    assert "access-control-allow-origin" not in preflight(tiny, APP).headers
    server, named = cors
    answer = preflight(server, APP)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == (APP if named else "*")
    assert "POST" in answer.headers["access-control-allow-methods"]
    answer = httpx.get(f"{server.url}/v1/models", headers={"Origin": APP})
    assert answer.headers["access-control-expose-headers"] == "*"


@pytest.mark.parametrize("origin", ["http://evil.example", "http://app.example.evil.example", "null"])
def test_no_other_origin_may_call_from_a_public_network(cors: tuple[Server, bool], origin: str) -> None:
    server, named = cors
    answer = preflight(server, origin, **PRIVATE)
    assert answer.status_code == 400
    assert ("access-control-allow-origin" in answer.headers) is not named


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
@pytest.mark.parametrize("path", [f"{CHAT}/", "/health/", "/v1/models/tiny-model/", "//v1/models", "/v1"])
def test_no_path_is_redirected(tiny: Server, method: str, path: str) -> None:
    with httpx.Client(follow_redirects=False) as client:
        answer = client.request(method, tiny.url + path, headers={"Host": "evil.example"})
    assert answer.status_code in (404, 405)
    assert "location" not in answer.headers
    assert method == "HEAD" or answer.json()["error"]["code"]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize", "/detokenize"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, deflate", "x" * 5000])
def test_an_encoded_body_is_a_415_that_names_the_encoding(tiny: Server, path: str, encoding: str) -> None:
    answer = httpx.post(tiny.url + path, content=gzip.compress(BODY), headers={"Content-Encoding": encoding})
    error = error_of(answer, 415)
    assert error["code"] == "unsupported_encoding"
    assert encoding[:40] in error["message"]
    assert len(error["message"]) < 200
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_a_body_may_say_that_it_is_not_encoded(tiny: Server, encoding: str) -> None:
    assert httpx.post(tiny.url + CHAT, content=BODY, headers={"Content-Encoding": encoding}).status_code == 200
