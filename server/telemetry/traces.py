"""OpenTelemetry spans for requests, completions and their phases.

The spans of a completion are created after it has finished, so that they cost nothing while it runs. This module needs
the extra `otel`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import pairwise

from opentelemetry import propagate
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server import __version__
from server.api.http.request_records import UNKNOWN_ROUTE, RequestRecord, is_unlogged
from server.chat.completion import AnyCompletion
from server.telemetry.logs import trace_context

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
}
"""OpenTelemetry's `gen_ai.operation.name` for each route that generates text."""


class Traces:
    """Creates and exports the spans of all requests.

    The request log calls `request` for each finished request.
    """

    def __init__(self, exporters: list[SpanExporter]) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("lfm-serve", __version__)

    def middleware(self, app: ASGIApp) -> Traced:
        """Wrap `app` so that each request gets a span.

        `app` must include RequestLogMiddleware, which then runs inside the span.
        """
        return Traced(app, self._tracer)

    def close(self) -> None:
        """Export the remaining spans, which may take several seconds."""
        self._provider.shutdown()

    def request(self, record: RequestRecord) -> None:
        """Describe a finished request in the current span, and add spans for its phases."""
        span = get_current_span()
        if not span.is_recording():
            return
        if record.route != UNKNOWN_ROUTE:
            span.update_name(f"{record.method} {record.route}")
            span.set_attribute("http.route", record.route)
        span.set_attribute("http.response.status_code", record.status)
        span.set_attribute("http.response.header.x-request-id", [record.request_id])
        _set_error(span, record)
        if record.completion is not None:
            self._add_generation(record, record.completion)

    def _add_generation(self, record: RequestRecord, completion: AnyCompletion) -> None:
        """Create the span of a finished completion, with a child span for each phase."""
        epoch = time.time() - time.monotonic()

        def nanoseconds(when: float) -> int:  # since 1970; `when` is in seconds of the monotonic clock
            return int((epoch + when) * 1e9)

        name = f"{OPERATIONS[record.route]} {record.model}"
        begin, end = nanoseconds(completion.times.queued), nanoseconds(record.ended)
        generation = self._tracer.start_span(name, attributes=_attributes(record, completion), start_time=begin)
        _set_error(generation, record)
        inside = set_span_in_context(generation)
        for phase, started, ended in _phases(completion, record.ended):
            span = self._tracer.start_span(phase, inside, start_time=nanoseconds(started))
            span.end(nanoseconds(ended))
        generation.end(end)


class Traced:
    """Middleware that opens a span for each request that is logged.

    The client's `traceparent` header, if any, names the parent span.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_unlogged(scope["path"]):
            await self._app(scope, receive, send)
            return
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        caller = propagate.extract(Headers(scope=scope))
        with self._tracer.start_as_current_span(scope["method"], caller, SpanKind.SERVER, attributes) as span:
            context = span.get_span_context()
            ids = {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}
            trace_context.set(ids)
            await self._app(scope, receive, send)


def _phases(completion: AnyCompletion, ended: float) -> Iterator[tuple[str, float, float]]:
    """Yield (name, begin, end) of each phase that the completion reached.

    An unfinished phase ends at `ended`.
    """
    times = completion.times
    borders = (times.queued, completion.started, times.first_token, times.last_token)
    for phase, (begin, end) in zip(("queue", "prefill", "decode"), pairwise(borders), strict=True):
        if begin is not None:
            yield phase, begin, ended if end is None else end


def _attributes(record: RequestRecord, completion: AnyCompletion) -> Mapping[str, AttributeValue]:
    model = record.model or ""
    return {
        "gen_ai.operation.name": OPERATIONS[record.route],
        "gen_ai.provider.name": "lfm-serve",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": [str(end) for _, end in sorted(completion.ends.items())],
        "gen_ai.usage.input_tokens": completion.prompt_tokens,
        "gen_ai.usage.output_tokens": completion.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": completion.cached_tokens,
    }


def _set_error(span: Span, record: RequestRecord) -> None:
    """Mark the span of a failed request with its error.

    By OpenTelemetry's conventions, a 4xx does not count as the server's failure.
    """
    if record.error_code is None:
        return
    span.set_attribute("error.type", record.error_code)
    if not 400 <= record.status < 500:
        span.set_status(StatusCode.ERROR)


def _resource() -> Resource:
    """Return the attributes that describe this service in traces.

    OpenTelemetry's environment variables override them.
    """
    named = OTELResourceDetector().detect().attributes
    return Resource.create({"service.name": "lfm-serve", "service.version": __version__, **named})
