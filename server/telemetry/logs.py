"""Log formats for terminals and machines, and the lines of the request log.

Unprintable characters are escaped, so that a client's text cannot start a line or control a terminal. Loggers pass
structured values as `extra={"fields": {...}}`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from pydantic_core import to_jsonable_python

from server.api.http.request_id import current_request_id
from server.api.http.request_records import RequestRecord
from server.chat.completion import AnyCompletion
from server.escape import escaped, printable

trace_context: ContextVar[Mapping[str, str]] = ContextVar("trace_context", default=MappingProxyType({}))
"""`trace_id` and `span_id` of the current request; empty if it is not traced."""

MAX_TEXT = 64 * 2**10
"""Maximum number of characters in a message, a field or a traceback."""

QUIET = ("httpx", "httpx2", "uvicorn.error")
"""Loggers that log warnings and errors only.

Their other messages are about hub requests, and uvicorn's start and stop.
"""

request_log = logging.getLogger("server.requests")


def resolved(log_format: Literal["auto", "text", "json"]) -> Literal["text", "json"]:
    """Resolve `auto`: text if standard error is a terminal, else JSON."""
    if log_format == "auto":
        return "text" if sys.stderr.isatty() else "json"
    return log_format


def configure_logging(log_format: Literal["text", "json"], level: str) -> None:
    """Write log lines of `level` and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(note_request)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for library in QUIET:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))


def note_request(line: logging.LogRecord) -> bool:
    """Attach the current request's ID and trace to `line`. A logging filter."""
    request_id = current_request_id.get()
    line.context = {"request_id": request_id, **trace_context.get()} if request_id else {}
    return True


class TextFormatter(logging.Formatter):
    """Formats lines as `12:00:00 INFO     message name=value ...`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        facts = {**getattr(record, "fields", {}), **getattr(record, "context", {})}
        pairs = [f"{name}={escaped(_short(value), MAX_TEXT)}" for name, value in facts.items() if value is not None]
        return " ".join((record.asctime, f"{record.levelname:<8}", escaped(record.message, MAX_TEXT), *pairs))

    def formatException(self, ei: Any) -> str:
        """Return the traceback, indented so that it never looks like a log line."""
        return "\n".join(f"  {printable(line)}" for line in _cut(super().formatException(ei)).split("\n"))


class JsonFormatter(logging.Formatter):
    """Formats each line as one JSON object, with the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "context", {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        bounded = {name: _cut(value) if isinstance(value, str) else value for name, value in line.items()}
        return printable(json.dumps(bounded, ensure_ascii=False, default=str))


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    """Return `text` without its middle if it exceeds `MAX_TEXT`."""
    half = MAX_TEXT // 2
    return text if len(text) <= MAX_TEXT else f"{text[:half]}\n...\n{text[-half:]}"


class RequestLogWriter:
    """Logs one line per finished request: outcome, tokens and times.

    prompts: whether to include the prompt.
    """

    def __init__(self, prompts: bool) -> None:
        self._prompts = prompts

    def request(self, record: RequestRecord) -> None:
        """Write the log line for a finished request."""
        fields = {
            "finish": record.finish,
            "error": record.error_code,
            "model": record.model,
            "key": record.key,
            **(_tokens_and_times(record, record.completion) if record.completion is not None else {}),
            "total_seconds": round(record.ended - record.received, 6),
        }
        if self._prompts and record.prompt is not None:
            fields["prompt"] = json.dumps(to_jsonable_python(record.prompt, exclude_none=True), ensure_ascii=False)
        summary = {"method": record.method, "route": record.route, "status": record.status}
        request_log.info("%s %s %d", *summary.values(), extra={"fields": summary | fields})


def _tokens_and_times(record: RequestRecord, completion: AnyCompletion) -> Mapping[str, Any]:
    def since(begin: float, end: float | None) -> float | None:
        return None if end is None else round(end - begin, 6)

    return {
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "completion_tokens": completion.completion_tokens,
        "queue_seconds": since(completion.times.queued, completion.started),
        "ttft_seconds": since(record.received, completion.times.first_token),
    }
