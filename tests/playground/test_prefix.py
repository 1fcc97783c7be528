"""The page behind a proxy that serves it under a path."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import free_port
from tests.playground.conftest import OpenPage
from tests.serving import Server
from tests.waiting import wait_until

CONFIGURATION = """
daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi; uwsgi_temp_path {folder}/uwsgi;
  server {{
    listen 127.0.0.1:{port};
    location /models/lfm2/ {{ proxy_pass {url}/; proxy_http_version 1.1; proxy_buffering off; }}
  }}
}}
"""


@pytest.fixture
def prefixed(demo: Server, tmp_path: Path) -> Iterator[str]:
    """The address of the page below a path of another server."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    file = tmp_path / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=tmp_path, port=port, url=demo.url))
    nginx = subprocess.Popen(["nginx", "-e", "stderr", "-p", tmp_path, "-c", file])
    url = f"http://127.0.0.1:{port}/models/lfm2"
    try:
        wait_until(lambda: answers(f"{url}/"), 30)
        yield url
    finally:
        nginx.terminate()
        nginx.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_the_page_stays_below_its_prefix(prefixed: str, open_page: OpenPage) -> None:
    playground = open_page(prefixed)
    playground.wait_until_ready()
    playground.send("What are you?")
    assert "lfm2-demo" in playground.text()
    assert all(request.startswith(prefixed) for request in playground.requests)
