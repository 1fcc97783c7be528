"""Log lines: for people in a terminal, else JSON, one object a line; and the one line that tells of each request.

A line's `extra={"fields": {...}}` are facts beside its message. Lines of a request say its id, whoever writes them.
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
from server.api.http.request_log import RequestRecord
from server.chat.completion import AnyCompletion

trace_context: ContextVar[Mapping[str, str]] = ContextVar("trace_context", default=MappingProxyType({}))
"""The `trace_id` and `span_id` of the request that the code at hand works for, where it is traced."""

QUIET = ("httpx2", "uvicorn.error")
"""Loggers silenced below warnings: they report each request to the hub, and each phase of uvicorn's start and stop."""

request_log = logging.getLogger("server.requests")


def resolved(log_format: Literal["auto", "text", "json"]) -> Literal["text", "json"]:
    """`auto` is text where standard error is a terminal."""
    if log_format == "auto":
        return "text" if sys.stderr.isatty() else "json"
    return log_format


def configure_logging(log_format: Literal["text", "json"], level: str) -> None:
    """Send all lines from `level` on to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(note_request)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for library in QUIET:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))


def note_request(line: logging.LogRecord) -> bool:
    """A filter that lets every line pass, and says to which request and trace it belongs."""
    request_id = current_request_id.get()
    line.context = {"request_id": request_id, **trace_context.get()} if request_id else {}
    return True


class TextFormatter(logging.Formatter):
    """`12:00:00 INFO     message name=value ...`, with a traceback below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        facts = {**getattr(record, "fields", {}), **getattr(record, "context", {})}
        told = [f"{name}={_short(value)}" for name, value in facts.items() if value is not None]
        return " ".join((super().formatMessage(record), *told))


class JsonFormatter(logging.Formatter):
    """One object a line, with the time in UTC."""

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
        return json.dumps(line, ensure_ascii=False, default=str)


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


class RequestLogWriter:
    """Writes a line for each request that is over: what it took and how it ended; with `prompts` what was asked."""

    def __init__(self, prompts: bool) -> None:
        self._prompts = prompts

    def request(self, record: RequestRecord) -> None:
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
        told = {"method": record.method, "route": record.route, "status": record.status}
        request_log.info("%s %s %d", *told.values(), extra={"fields": told | fields})


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
