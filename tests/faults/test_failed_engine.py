"""Errors in the engine's own state: requests are refused, and nothing hangs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engine.prefix_cache import PrefixCache
from tests.chats import HELLO
from tests.serving import StartServer


def raising(error: Exception) -> Callable[..., None]:
    def call(*_: Any, **__: Any) -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("mmap.mmap", OSError(errno.ENOMEM, "Cannot allocate memory")),
        ("server.engine.prefix_cache.PrefixCache.insert", MemoryError("24,576 bytes cannot be mapped")),
    ],
)
def test_without_memory_for_the_cache_requests_are_answered_uncached(
    tiny_model: Path,
    start_server: StartServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    error: Exception,
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=2, threads=1)
    monkeypatch.setattr(function, raising(error))
    for _ in range(2):
        answer = server.chat(messages=HELLO, max_tokens=80)  # past the next regular checkpoint
        assert answer.status_code == 200
        assert answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert "no memory to keep" in caplog.text


def test_an_error_outside_a_step_closes_the_engine_and_is_reported(
    tiny_model: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(model=str(tiny_model), max_seqs=2, threads=1)

    monkeypatch.setattr(PrefixCache, "insert", raising(RuntimeError("a fault")))
    for _ in range(2):  # the request during which it failed, and the next one
        answer = server.chat(messages=HELLO, max_tokens=4)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "failed")
    for path in ("/ready", "/health"):
        probe = httpx.get(f"{server.url}{path}")
        assert (probe.status_code, probe.json()["status"]) == (503, "failed")
    assert "The engine has failed" in caplog.text
