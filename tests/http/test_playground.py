"""The files of the page at /: headers, caching, size, and how to switch them off."""

from __future__ import annotations

import gzip
import re

import httpx
import pytest

from server.api.playground import FOLDER
from tests.serving import Server, StartServer

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", ["/", "/playground/main.js", "/playground/styles/base.css", "/playground/icon.svg"])
def test_a_file_has_a_type_and_a_strict_policy(demo: Server, path: str) -> None:
    answer = httpx.get(demo.url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] in (
        "text/html", "text/javascript", "text/css", "image/svg+xml"
    )  # fmt: skip
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


def test_an_unchanged_file_is_not_sent_again(demo: Server) -> None:
    first = httpx.get(f"{demo.url}/playground/main.js")
    again = httpx.get(f"{demo.url}/playground/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = httpx.get(f"{demo.url}/playground/main.js", headers={"If-None-Match": '"other"'})
    assert changed.content == first.content
    assert httpx.head(f"{demo.url}/").headers["etag"] == httpx.get(f"{demo.url}/").headers["etag"]


@pytest.mark.parametrize(
    "path", ["/playground/", "/playground/nothing.js", "/playground/%2e%2e/settings.py", "/playground"]
)
def test_there_is_no_other_file(demo: Server, path: str) -> None:
    assert httpx.get(demo.url + path).json()["error"]["code"] == "unknown_url"


def test_the_page_needs_no_key(start_server: StartServer) -> None:
    url = start_server(api_key="sesame").url
    assert httpx.get(f"{url}/").status_code == 200
    assert httpx.get(f"{url}/playground/main.js").status_code == 200
    assert httpx.get(f"{url}/v1/models").status_code == 401


def test_the_page_can_be_switched_off(start_server: StartServer) -> None:
    url = start_server(no_playground=True).url
    for path in ("/", "/playground/main.js"):
        assert httpx.get(url + path).json()["error"]["code"] == "unknown_url"


def test_the_page_is_small_and_refers_to_its_own_files_only(demo: Server) -> None:
    bodies = [httpx.get(f"{demo.url}/playground/{name}").content for name in FILES]
    assert sum(len(gzip.compress(body)) for body in bodies) < 150_000
    page = httpx.get(f"{demo.url}/").text
    references = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert all(reference.removeprefix("playground/") in FILES for reference in references)
    assert not re.search(r"<script(?![^>]* src=)|<style|style=|\son\w+=", page)


def test_the_model_says_whether_it_is_built_in(demo: Server, tiny: Server) -> None:
    for server, expected in ((demo, True), (tiny, False)):
        [model] = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert httpx.get(f"{server.url}/v1/models/{model['id']}").json()["built_in"] is expected
