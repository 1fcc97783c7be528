"""All metrics of one server, in a registry of its own. Names and units are for dashboards: docs/metrics.md lists them.

Labels are few and bounded: routes, finish reasons and error codes are ours, never what a client sent.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.exposition import choose_encoder

from server import __version__
from server.api.http.request_log import RequestLog, RequestRecord
from server.chat.completion import AnyCompletion
from server.engine.observations import EngineStats, StepRecord
from server.telemetry.collectors import EngineCollector, IntervalCollector, TokenCollector

# Buckets for a CPU: from a small model's milliseconds to minutes.
REQUEST_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
STEP_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SEQUENCES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

# A time of creation beside each counter doubles what is scraped.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Hand `step` to the engine and `request` to the journal, whose open requests' tokens count as they come."""

    def __init__(self, request_log: RequestLog, ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self._engine = EngineCollector(ready)
        self._tokens = TokenCollector(request_log.open)
        self.registry.register(self._engine)
        self.registry.register(self._tokens)
        self._requests = RequestMetrics(self.registry)
        self._steps = StepMetrics(self.registry)
        build = {"version": __version__, "onnxruntime": version("onnxruntime"), "python": platform.python_version()}
        Info("lfm_build", "The server's version and what it runs on.", registry=self.registry).info(build)
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)

    def serve(self, model: Mapping[str, str], stats: Callable[[], EngineStats]) -> None:
        """The model is loaded: facts about it, and where to read what its engine holds."""
        Info("lfm_model", "The served model.", registry=self.registry).info(dict(model))
        self._engine.stats = stats

    def step(self, record: StepRecord) -> None:
        """A step was carried out; on any thread."""
        self._steps.count(record)

    def request(self, record: RequestRecord) -> None:
        """A request is over."""
        if record.completion is not None:
            self._tokens.over(record.completion)
        self._requests.count(record)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All of it, and its content type: the text format or OpenMetrics, as the header `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class RequestMetrics:
    """Counted once a request, when it is over."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, registry=registry, buckets=REQUEST_SECONDS)

        self._requests = Counter(
            "lfm_requests",
            "Requests that are over, by how their first choice ended (stop, length, tool_calls), or error, cancelled "
            "(the client left), none (nothing was to be generated).",
            ("route", "finish_reason"),
            registry=registry,
        )
        self._errors = Counter(
            "lfm_request_errors",
            "Requests that were answered with an error, by its code or status; also those whose stream had begun.",
            ("route", "code"),
            registry=registry,
        )
        self._ttft = seconds("lfm_time_to_first_token_seconds", "From a request's arrival to its first token.")
        self._queue = seconds("lfm_queue_seconds", "From when a request was queued until its prompt was begun.")
        self._prefill = seconds("lfm_prefill_seconds", "From when a prompt was begun to the first token.")
        self._decode = seconds("lfm_decode_seconds", "From the first token to the last.")
        self._total = seconds("lfm_request_seconds", "From a request's arrival to its response's end.")
        self._prompt = Histogram(
            "lfm_request_prompt_tokens", "Prompt tokens of a request.", registry=registry, buckets=TOKENS
        )
        self._generated = Histogram(
            "lfm_request_generation_tokens", "Tokens generated for a request.", registry=registry, buckets=TOKENS
        )

    def count(self, record: RequestRecord) -> None:
        self._requests.labels(record.route, record.finish).inc()
        if record.error_code is not None:
            self._errors.labels(record.route, record.error_code).inc()
        if record.completion is not None:
            self._count_answers(record, record.completion)

    def _count_answers(self, record: RequestRecord, completion: AnyCompletion) -> None:
        """Phases that a request did not come to are not counted for it."""
        times, started = completion.times, completion.started
        self._total.observe(record.ended - record.received)
        self._prompt.observe(completion.prompt_tokens)
        self._generated.observe(completion.completion_tokens)
        if started is not None:
            self._queue.observe(started - times.queued)
        if times.first_token is None:
            return
        self._ttft.observe(times.first_token - record.received)
        if started is not None:
            self._prefill.observe(times.first_token - started)
        if times.last_token is not None:
            self._decode.observe(times.last_token - times.first_token)


class StepMetrics:
    """Counted once a step, on the thread that carried it out."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lfm_step_seconds", "All of a step, decode or prefill.", ("kind",), registry=registry, buckets=STEP_SECONDS
        )
        self._batch = Histogram(
            "lfm_step_batch_size", "Sequences in a decode step.", registry=registry, buckets=SEQUENCES
        )
        self._intervals = IntervalCollector(STEP_SECONDS)
        registry.register(self._intervals)
        self._failures = Counter("lfm_step_failures", "Steps that failed, with all their sequences.", registry=registry)

    def count(self, record: StepRecord) -> None:
        if record.failed:
            self._failures.inc()
            return
        self._seconds.labels(record.kind).observe(record.seconds)
        if record.kind == "decode":
            self._batch.observe(record.sequences)
        self._intervals.observe(record.intervals)
