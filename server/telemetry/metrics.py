"""All metrics of one server, listed in docs/metrics.md.

Labels never hold client text, so that the number of their values is bounded.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.exposition import choose_encoder

from server import __version__
from server.api.http.request_records import RequestLog, RequestRecord
from server.chat.completion import AnyCompletion
from server.engine.observations import EngineStats, StepObservation
from server.telemetry.collectors import EngineCollector, IntervalCollector, TokenCollector
from server.telemetry.vllm_names import VllmCollector

# Bucket bounds that suit a CPU, from a small model's milliseconds to minutes.
REQUEST_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
STEP_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SEQUENCES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

# A creation timestamp per counter would double the size of each scrape.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self, request_log: RequestLog, ready: Callable[[], bool], vllm_name: str | None) -> None:
        """Create the metrics.

        ready: returns whether the server accepts requests.
        vllm_name: model name in the metrics under vLLM's names; None to leave these metrics out.
        """
        self.registry = CollectorRegistry()
        self._engine = EngineCollector(ready)
        self._tokens = TokenCollector(request_log.open)
        self.registry.register(self._engine)
        self.registry.register(self._tokens)
        self._requests = RequestMetrics(self.registry)
        self._steps = StepMetrics(self.registry)
        self._vllm: VllmCollector | None = None
        if vllm_name is not None:
            self._vllm = VllmCollector(vllm_name, [self._tokens, *self._requests.latencies])
            self.registry.register(self._vllm)
        build = {"version": __version__, "onnxruntime": version("onnxruntime"), "python": platform.python_version()}
        Info("lfm_build", "Versions of the server, of onnxruntime and of Python.", registry=self.registry).info(build)
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)

    def serve(self, model: Mapping[str, str], stats: Callable[[], EngineStats], cache_blocks: int) -> None:
        """Start reporting a loaded model.

        model: labels of lfm_model_info.
        stats: returns the engine's statistics.
        cache_blocks: capacity of the prefix cache in blocks.
        """
        Info("lfm_model", "The served model.", registry=self.registry).info(dict(model))
        self._engine.stats = stats
        if self._vllm is not None:
            self._vllm.serve(stats, cache_blocks)

    def step(self, observation: StepObservation) -> None:
        """Count an executed step. Thread-safe."""
        self._steps.count(observation)

    def request(self, record: RequestRecord) -> None:
        """Count a finished request."""
        if record.completion is not None:
            self._tokens.finish(record.completion)
        self._requests.count(record)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type.

        accept: Accept header, which selects the text format or OpenMetrics.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class RequestMetrics:
    """Metrics that each finished request updates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, registry=registry, buckets=REQUEST_SECONDS)

        self._requests = Counter(
            "lfm_requests",
            "Finished requests by finish_reason: stop, length or tool_calls (as in the first choice), error, "
            "cancelled (the client disconnected), or none (the request generates nothing).",
            ("route", "finish_reason"),
            registry=registry,
        )
        self._errors = Counter(
            "lfm_request_errors",
            "Requests that failed, by error code or status; includes errors sent after a stream had started.",
            ("route", "code"),
            registry=registry,
        )
        self._ttft = seconds(
            "lfm_time_to_first_token_seconds", "Seconds from the arrival of a request to its first token."
        )
        self._queue = seconds("lfm_queue_seconds", "Seconds from queueing a request to the start of its prefill.")
        self._prefill = seconds(
            "lfm_prefill_seconds", "Seconds from the start of a request's prefill to its first token."
        )
        self._decode = seconds("lfm_decode_seconds", "Seconds from the first token of a request to its last.")
        self._total = seconds(
            "lfm_request_seconds", "Seconds from the arrival of a request to the end of its response."
        )
        self._prompt = Histogram(
            "lfm_request_prompt_tokens", "Prompt tokens per request.", registry=registry, buckets=TOKENS
        )
        self._generated = Histogram(
            "lfm_request_generation_tokens", "Generated tokens per request.", registry=registry, buckets=TOKENS
        )

    @property
    def latencies(self) -> tuple[Histogram, Histogram]:
        """Histograms of the time to first token and of the whole request."""
        return self._ttft, self._total

    def count(self, record: RequestRecord) -> None:
        """Count a finished request."""
        self._requests.labels(record.route, record.finish).inc()
        if record.error_code is not None:
            self._errors.labels(record.route, record.error_code).inc()
        if record.completion is not None:
            self._count_completion(record, record.completion)

    def _count_completion(self, record: RequestRecord, completion: AnyCompletion) -> None:
        """Record a completion's tokens, and the durations of the phases that it reached."""
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
    """Metrics that each step updates, on the thread that ran it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lfm_step_seconds",
            "Duration of a step in seconds, by kind: decode or prefill.",
            ("kind",),
            registry=registry,
            buckets=STEP_SECONDS,
        )
        self._batch = Histogram(
            "lfm_step_batch_size", "Sequences per decode step.", registry=registry, buckets=SEQUENCES
        )
        self._intervals = IntervalCollector(STEP_SECONDS)
        registry.register(self._intervals)
        self._failures = Counter(
            "lfm_step_failures", "Failed steps. All sequences of a failed step fail, too.", registry=registry
        )

    def count(self, observation: StepObservation) -> None:
        """Count an executed step."""
        if observation.failed:
            self._failures.inc()
            return
        self._seconds.labels(observation.kind).observe(observation.seconds)
        if observation.kind == "decode":
            self._batch.observe(observation.sequences)
        self._intervals.observe(observation.intervals)
