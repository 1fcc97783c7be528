"""Text of clients cannot break a header, forge a log line or control a terminal."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import httpx
import pytest

from server.api.http.request_records import RequestLogEntry
from server.telemetry.logs import MAX_TEXT, JsonFormatter, TextFormatter
from tests.chats import HELLO
from tests.raw_http import connected
from tests.serving import Server

HOSTILE = [
    "a\nb",
    "a\r\nSet-Cookie: x=1\r\n\r\n<html>",
    "a\x7fb",
    "a\x00b",
    "\x1b]0;title\x07\x1b[2J",
    "\x9b31m",
    "a\u2028b\u2029c\u0085d",
    "\ud800",
    "\u202egnp.exe",
]


def unenforced_tool(name: str) -> dict[str, Any]:
    """A tool whose schema cannot be enforced at a property called `name`."""
    parameters = {"type": "object", "properties": {name: {"type": "array", "uniqueItems": True}}}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("stream", [False, True])
def test_a_header_escapes_what_a_client_calls_its_properties(tiny: Server, name: str, stream: bool) -> None:
    body = json.dumps({"messages": HELLO, "max_tokens": 1, "stream": stream, "tools": [unenforced_tool(name)]})
    answer = httpx.post(f"{tiny.url}/v1/chat/completions", content=body)
    if answer.status_code == 400:  # a lone surrogate is no text
        assert "\\ud800" in body
        return
    assert answer.status_code == 200
    header = answer.headers["x-lfm-unenforced"]
    assert "uniqueItems" in header
    assert header.isascii()
    assert header.isprintable()
    assert "set-cookie" not in answer.headers


def test_a_header_of_many_long_names_is_bounded(tiny: Server, caplog: pytest.LogCaptureFixture) -> None:
    name = "\x01\U0001f600" * 5000
    tools = [unenforced_tool(f"{name}{i}") for i in range(20)]
    answer = tiny.chat(messages=HELLO, max_tokens=1, tools=tools)
    assert answer.status_code in (200, 400)
    assert len(answer.headers.get("x-lfm-unenforced", "")) <= 1000
    assert all(len(line.getMessage()) < 2000 for line in caplog.records)


def test_headers_that_only_look_like_request_ids_are_not_repeated(tiny: Server) -> None:
    for sent in (b"a b", b"a\x0cb", b"\xff", b"a" * 129):
        with connected(tiny.url) as client:
            client.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: " + sent + b"\r\n\r\n")
            answer = client.answer()
            assert answer.status in (200, 400)
            assert answer.headers.get("x-request-id", "req_").startswith("req_")


def line_of(formatter: logging.Formatter, message: str, **extra: Any) -> str:
    record = logging.LogRecord("server", logging.WARNING, __file__, 1, message, None, None)
    record.__dict__.update(extra)
    return formatter.format(record)


def traceback_of(formatter: logging.Formatter, message: str) -> str:
    try:
        raise ValueError(message)
    except ValueError:
        record = logging.LogRecord("server", logging.ERROR, __file__, 1, "failed", None, sys.exc_info())
    return formatter.format(record)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_line_is_one_printable_line(text: str) -> None:
    forged = f"{text}\n12:00:00 ERROR    forged"
    for formatter in (TextFormatter(), JsonFormatter()):
        for line in (line_of(formatter, forged), line_of(formatter, "message", fields={"name": forged})):
            assert line.isprintable()
            assert "forged" in line
    line = json.loads(line_of(JsonFormatter(), forged, fields={"name": text}))
    assert (line["message"], line["name"]) == (forged, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_traceback_forges_no_line(text: str) -> None:
    forged = f"{text}\n12:00:00 ERROR    forged"
    first, *rest = traceback_of(TextFormatter(), forged).split("\n")
    assert first.endswith("failed")
    assert any("forged" in line for line in rest)
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
    assert forged in json.loads(traceback_of(JsonFormatter(), forged))["exception"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_log_line_is_bounded(formatter: logging.Formatter) -> None:
    text = "a" * 45_000_000
    assert len(line_of(formatter, text, fields={"name": text})) < 2 * MAX_TEXT + 1000
    assert len(line_of(formatter, "\x00" * 45_000_000)) < 7 * MAX_TEXT
    traceback = traceback_of(formatter, text)
    assert len(traceback) < MAX_TEXT + 1000
    assert "ValueError" in traceback


async def test_a_response_that_cannot_start_is_a_500_in_the_request_log() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\n")]})

    async def send(message: Any) -> None:
        raise RuntimeError("Invalid HTTP header value.")

    async def receive() -> Any: ...

    entry = RequestLogEntry("id", "POST")
    with pytest.raises(RuntimeError):
        await entry.observe(app, {}, receive, send)
    record = entry.record("/", None)
    assert (record.status, record.finish) == (500, "error")
