"""All costly requests that one client can send, at the same time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.hostile_forms import hostile_form
from benchmarks.soak.clients import CHAT, connect

HELLO = [{"role": "user", "content": "Hello!"}]

Attack = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def attack(url: str, key: str, seconds: float) -> list[int]:
    """Repeat all attacks for `seconds`, and return the statuses."""
    return asyncio.run(_attack(url, key, time.monotonic() + seconds))


async def _attack(url: str, key: str, end: float) -> list[int]:
    async with connect(url) as client:
        client.headers.update({"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        port = urlsplit(url).port
        assert port is not None
        sockets = (_unread(port, key, end), _trailers(port, end), _idle(port, end))
        each = await asyncio.gather(*(_repeat(one, client, end) for one in _attacks()), *sockets)
    return [status for statuses in each if statuses for status in statuses]


def _attacks() -> Iterator[Attack]:
    """Yield the attacks to run at the same time, each of them several times."""
    rng = random.Random(7)
    forms = [_chat(max_tokens=20, **hostile_form(rng)) for _ in range(100)]
    overlong = _chat(messages=[{"role": "user", "content": "river " * 300_000}])
    large = json.dumps({"prompt": "river stone " * 80_000}).encode()
    every_bias = _chat(n=7, logit_bias={str(i): 1 for i in range(1000)}, max_tokens=200)
    wide = {"oneOf": [{"required": [f"p{i}_{j}" for j in range(30)]} for i in range(400)]}
    names = {"type": "object", "properties": {f"{'n' * 900}\n{i}": {"uniqueItems": True} for i in range(100)}}
    wide_tool, long_names = _chat(**_tool(wide, "required")), _chat(max_tokens=5, **_tool(names, "auto"))
    for number in range(24):
        yield _post(CHAT, lambda: rng.choice(forms))
        yield _post(CHAT, lambda: _chat(guided_regex=f"(a{{1000}}){{{rng.randint(1, 1003)}}}"))
        yield _post("/tokenize", lambda: large)
        if number < 8:
            yield _post(CHAT, lambda: overlong)
            yield _post(CHAT, lambda: overlong)
            yield _post(CHAT, lambda: every_bias)
            yield _post(CHAT, lambda: wide_tool)
            yield _post(CHAT, lambda: long_names)


def _chat(**fields: Any) -> bytes:
    return json.dumps({"messages": HELLO, **fields}).encode()


def _tool(parameters: Any, choice: str) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}], "tool_choice": choice}


def _post(path: str, body: Callable[[], bytes]) -> Attack:
    return lambda client: client.post(path, content=body())


async def _repeat(attack: Attack, client: httpx.AsyncClient, end: float) -> list[int]:
    statuses = []
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            statuses.append((await attack(client)).status_code)
    return statuses


async def _unread(port: int, key: str, end: float) -> None:
    """Keep four streams of eight choices open without reading them."""
    body = json.dumps({"messages": HELLO, "n": 8, "stream": True, "ignore_eos": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    await _hold(port, end, 4, head.encode() + body)


async def _trailers(port: int, end: float) -> None:
    """Send endless trailers, without a key."""
    start = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode()
    while time.monotonic() < end:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        with suppress(OSError):
            while time.monotonic() < end:
                writer.write(b"a: " + b"x" * 60_000 + b"\r\n")
                await writer.drain()
        writer.close()


async def _idle(port: int, end: float) -> None:
    """Keep 300 connections open without sending a whole request."""
    await _hold(port, end, 300, b"GET /health HTTP/1.1\r\n")


async def _hold(port: int, end: float, count: int, data: bytes) -> None:
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(data)
        writers.append(writer)
    await asyncio.sleep(max(0, end - time.monotonic()))
    for writer in writers:
        writer.close()
