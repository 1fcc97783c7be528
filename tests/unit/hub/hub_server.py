"""A small Hugging Face hub on loopback: repositories in memory, and the ways in which a real one fails.

Answers huggingface_hub's requests to list and download models: model info, tree, and resolve with HEAD, GET,
ETag and Range. Large files are kept outside git, as on the real one, but not in its chunk store (xet).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/]+))?")
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Repository:
    """`files` by path, all of one commit on main.

    It is visible only with `token`, if any. If `gated`, it can be listed but not downloaded. `claimed_sizes` are wrong
    sizes of some files in the listing.
    """

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False
    claimed_sizes: dict[str, int] = field(default_factory=dict)

    def size(self, path: str) -> int:
        return self.claimed_sizes.get(path, len(self.files[path]))

    def git_id(self, path: str) -> str:
        return hashlib.sha1(self.files[path]).hexdigest()

    def sha256(self, path: str) -> str | None:
        return hashlib.sha256(self.files[path]).hexdigest() if self.size(path) >= LARGE else None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    authorization: str | None
    host: str | None = None


@dataclass
class Hub:
    """`repositories` by name, and all `requests` that came.

    `drops` breaks connections: for a file's name, the number of bytes after which each of the next answers ends.
    `redirects`: large files come from another host. Without `ranges`, a file is always sent whole.
    `failing`: the status of every answer. `page`: the content of every answer, which is not a hub's.
    """

    url: str
    repositories: dict[str, Repository]
    requests: list[Request] = field(default_factory=list)
    drops: dict[str, list[int]] = field(default_factory=dict)
    redirects: bool = False
    ranges: bool = True
    failing: int | None = None
    page: bytes | None = None

    def downloads(self) -> dict[str, list[str | None]]:
        """Return the range of each download, by the file's path."""
        found: dict[str, list[str | None]] = {}
        for request in self.requests:
            match = RESOLVE.fullmatch(request.path)
            if match and request.method == "GET":
                found.setdefault(match["file"], []).append(request.range)
        return found


@contextmanager
def running_hub(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """A hub on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = _Handler.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", repositories)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """A folder's files as a repository has them."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        url, headers = urlsplit(self.path), self.headers
        path = unquote(url.path)
        self.hub.requests.append(
            Request(self.command, path, headers["Range"], headers["Authorization"], headers["Host"])
        )
        if self.hub.failing is not None:
            self._refuse(self.hub.failing, None)
        elif self.hub.page is not None:
            self._answer(200, self.hub.page)
        elif match := API.fullmatch(path) or RESOLVE.fullmatch(path):
            self._route(**match.groupdict())
        else:
            self._refuse(404, None)

    do_HEAD = do_GET

    def _route(self, repo: str, revision: str | None, file: str | None = None, what: str | None = None) -> None:
        repository = self.hub.repositories.get(repo)
        elsewhere = (self.headers["Host"] or "").startswith("localhost:")
        authorized = f"Bearer {repository.token}" if repository and repository.token and not elsewhere else None
        if repository is None or (authorized and self.headers["Authorization"] != authorized):
            self._refuse(404, "RepoNotFound")
        elif revision not in (None, "main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif file is None:
            self._answer(200, json.dumps(_tree(repository) if what == "tree" else _info(repo, repository)).encode())
        elif repository.gated:
            self._refuse(403, "GatedRepo")
        elif file not in repository.files:
            self._refuse(404, "EntryNotFound")
        elif self.hub.redirects and not elsewhere and self.command == "GET" and repository.size(file) >= LARGE:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.url.replace('127.0.0.1', 'localhost')}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_file(repository, file)

    def _send_file(self, repository: Repository, file: str) -> None:
        content, start, status = repository.files[file], 0, 200
        headers = {"ETag": f'"{repository.git_id(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if sha256 := repository.sha256(file):
            headers |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and self.hub.ranges:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(status, content[start:], headers, self.hub.drops.get(Path(file).name))

    def _refuse(self, status: int, code: str | None) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code} if code else {})

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, drops: list[int] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            if drops:
                body, self.close_connection = body[: drops.pop(0)], True
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: `Hub.requests` is the log."""


def _info(repo: str, repository: Repository) -> dict[str, Any]:
    siblings = []
    for path in repository.files:
        sibling = {"rfilename": path, "size": repository.size(path), "blobId": repository.git_id(path)}
        if sha256 := repository.sha256(path):
            sibling["lfs"] = {"sha256": sha256, "size": repository.size(path), "pointerSize": 130}
        siblings.append(sibling)
    return {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}


def _tree(repository: Repository) -> list[dict[str, Any]]:
    tree = []
    for path in repository.files:
        entry = {"type": "file", "path": path, "size": repository.size(path), "oid": repository.git_id(path)}
        if sha256 := repository.sha256(path):
            entry["lfs"] = {"oid": sha256, "size": repository.size(path), "pointerSize": 130}
        tree.append(entry)
    return tree
