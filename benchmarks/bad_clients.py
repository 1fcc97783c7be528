"""Measures the event loop's delays while clients misbehave.

    python -m benchmarks.bad_clients [--seconds 4]

The server runs in this process, two well-behaved streams in another, and bad clients in a third, one kind after
another. For each kind, this prints the event loop's longest delay and the clients' answers: a status, "cut" (closed
without an answer), "nothing" (no answer in time) or "not connected".
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

from server.app import create_app, create_server, exempt_from_collection
from server.front.listener import listen
from server.settings import Settings

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
MESSAGE = b'{"role": "user", "content": "x"}'
TICK = 0.005  # seconds
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Client = Callable[[Connection, float], Coroutine[Any, Any, None]]


def whole(body: bytes) -> Client:
    """Return a client that sends a request with `body`."""

    async def send(connection: Connection, until: float) -> None:
        writer = connection[1]
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for begin in range(0, len(body), 2**16):
            writer.write(body[begin : begin + 2**16])
            await writer.drain()

    return send


def dripping(head: bytes, drip: bytes) -> Client:
    """Return a client that sends `head`, then `drip` ten times per second."""

    async def send(connection: Connection, until: float) -> None:
        connection[1].write(head)
        while time.monotonic() < until and not (connection[0].at_eof() or connection[1].is_closing()):
            connection[1].write(drip)
            await asyncio.sleep(0.1)

    return send


def messages(count: int) -> bytes:
    """Return a chat body of `count` messages."""
    return b'{"max_tokens": 1, "messages": [' + b",".join([MESSAGE] * count) + b"]}"


KINDS: dict[str, tuple[int, Client]] = {
    "none": (0, whole(b"")),
    "2,000 idle connections": (2000, dripping(b"", b"")),
    "200 slow heads": (200, dripping(HEAD + b"X-Slow: ", b"a")),
    "200 slow bodies": (200, dripping(HEAD + b"Content-Length: 100000\r\n\r\n", b" ")),
    "broken chunks": (50, dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n", b"zz\r\n")),
    "100 MB bodies": (4, whole(b" " * 100_000_000)),
    "2 MiB of blanks": (8, whole(b" " * (2 * 2**20))),
    "invalid UTF-8": (50, whole(b'{"messages": ["' + b"\xff" * 1_000_000 + b'"]}')),
    "NaN": (50, whole(b'{"messages": [], "temperature": NaN}')),
    "1e400": (50, whole(b'{"messages": [' + MESSAGE + b'], "temperature": 1e400}')),
    "100,000 empty messages": (8, whole(b'{"messages": [' + b"{}," * 99_999 + b"{}]}")),
    "5,000 messages": (8, whole(messages(5_000))),
    "60,000 messages": (8, whole(messages(60_000))),
    "deep nesting": (8, whole(b'{"messages": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}")),
    "a million numbers": (8, whole(b'{"messages": [' + MESSAGE + b'], "stop_token_ids": [' + b"1," * 990_000 + b"1]}")),
    "a prompt of 2 MB": (4, whole(b'{"messages": [{"role": "user", "content": "' + b"word " * 400_000 + b'"}]}')),
}


class Lateness:
    """A monitor of the event loop's delays.

    `take` returns the longest delay since the last `take`, in seconds.
    """

    def __init__(self) -> None:
        self._worst = 0.0

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self._worst = max(self._worst, time.perf_counter() - before - TICK)

    def take(self) -> float:
        worst, self._worst = self._worst, 0.0
        return worst


async def misbehave(url: str, kind: str, seconds: float) -> collections.Counter[str]:
    """Run all clients of a kind again and again, and count their answers."""
    count, client = KINDS[kind]
    until = time.monotonic() + seconds
    answers: collections.Counter[str] = collections.Counter()

    async def repeat() -> None:
        while time.monotonic() < until:
            answers[await once(url, client, until)] += 1

    await asyncio.gather(*(repeat() for _ in range(count)), asyncio.sleep(seconds))
    return answers


async def once(url: str, client: Client, until: float) -> str:
    """Connect, run the client once, and return its answer."""
    address = urlsplit(url)
    try:
        reader, writer = connection = await asyncio.open_connection(address.hostname, address.port)
    except OSError:
        return "not connected"
    sending = asyncio.ensure_future(client(connection, until))
    try:
        status = await asyncio.wait_for(reader.readline(), max(until - time.monotonic(), 0) + 10)
        return status.split()[1].decode() if status else "cut"
    except ConnectionError:
        return "cut"
    except TimeoutError:
        return "nothing"
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.transport.abort()


async def stream_for_ever(url: str) -> None:
    """Read one stream after another, as a well-behaved client."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True, "ignore_eos": True}).encode()
    while True:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while (await reader.readline()).strip() not in (b"data: [DONE]", b""):
            pass
        writer.close()


async def behave(url: str) -> None:
    await asyncio.gather(stream_for_ever(url), stream_for_ever(url))


def as_clients(url: str, kind: str, seconds: float) -> None:
    raise_open_files()
    print(json.dumps(asyncio.run(misbehave(url, kind, seconds))))


def raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve() -> tuple[str, Lateness]:
    """Start a server on a daemon thread; return its URL and its loop's Lateness."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = Settings(threads=1, read_timeout=2, log_level="error")
    app, lateness = create_app(settings, url, exempt_from_collection), Lateness()
    server = create_server(app, settings)

    async def run() -> None:
        watching = asyncio.create_task(lateness.watch())
        await server.serve(sockets=[listener])
        watching.cancel()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    while app.state.server.model is None:
        time.sleep(0.05)
    return url, lateness


def measure(seconds: float) -> None:
    raise_open_files()
    url, lateness = serve()
    command = [sys.executable, "-m", "benchmarks.bad_clients"]
    behaving = subprocess.Popen([*command, "--behave", url])
    print(f"{'clients':24} {'delay':>10}  answers")
    try:
        for kind in KINDS:
            lateness.take()
            bad = [*command, "--as-clients-of", url, "--kind", kind, "--seconds", str(seconds)]
            said = subprocess.run(bad, check=True, stdout=subprocess.PIPE, text=True).stdout
            answers = ", ".join(f"{answer}: {count}" for answer, count in sorted(json.loads(said).items()))
            print(f"{kind:24} {lateness.take() * 1000:7.0f} ms  {answers}", flush=True)
    finally:
        behaving.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="seconds per kind of client (default: 4)")
    parser.add_argument("--as-clients-of", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--behave", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_clients_of:
        as_clients(options.as_clients_of, options.kind, options.seconds)
    elif options.behave:
        asyncio.run(behave(options.behave))
    else:
        measure(options.seconds)
        os._exit(0)  # an orderly exit crashes if the server's thread is within a step


if __name__ == "__main__":
    main()
