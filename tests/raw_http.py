"""Raw bytes on a socket, for requests that no client library sends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """A response, read up to its length."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


class RawClient:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def close(self) -> None:
        """Close the file: until then the connection stays open."""
        self._file.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, path: str, *headers: str, body: bytes = b"") -> None:
        """Send a request's head, and `body` as its body or the start of it."""
        head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: test", *headers, "", ""])
        self.send(head.encode() + body)

    def head(self) -> tuple[int, dict[str, str]]:
        """Read a response's status and headers."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def answer(self) -> Answer:
        """Read a response that has a length."""
        status, headers = self.head()
        return Answer(status, headers, self._file.read(int(headers["content-length"])))

    def is_cut(self) -> bool:
        """Wait until the server closes the connection; return False if it sends something first."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


@contextmanager
def connected(url: str, receive_buffer: int | None = None) -> Iterator[RawClient]:
    """Connect to `url`'s host and port; any operation fails after SECONDS."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    with socket.socket() as connection:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(SECONDS)
        connection.connect((host, port))
        client = RawClient(connection)
        try:
            yield client
        finally:
            client.close()
