"""Metrics of our own making, put together when they are scraped: from the engine, its steps and the open requests."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from server.api.http.request_log import RequestLogEntry
from server.chat.completion import AnyCompletion
from server.engine.observations import EngineStats

GAUGES = {
    "running": ("lfm_requests_running", "Sequences that hold a slot: prefilling or decoding."),
    "waiting": ("lfm_requests_waiting", "Sequences that wait for a slot."),
    "waiting_tokens": ("lfm_waiting_tokens", "Tokens of the sequences that wait for a slot."),
    "slots": ("lfm_slots", "How many sequences can run at once."),
    "slot_tokens": ("lfm_slot_tokens", "Tokens whose state the running sequences hold."),
    "slot_tokens_budget": ("lfm_slot_tokens_budget", "How many tokens' state the running sequences may hold."),
    "cache_tokens": ("lfm_prefix_cache_tokens", "Tokens whose state the prefix cache holds."),
    "cache_bytes": ("lfm_prefix_cache_bytes", "Memory that the prefix cache holds."),
    "cache_window_bytes": (
        "lfm_prefix_cache_window_bytes",
        "Of the memory that the prefix cache holds, that of its checkpoints: the convolutions' windows.",
    ),
    "cache_bytes_budget": ("lfm_prefix_cache_bytes_budget", "Memory that the prefix cache may hold."),
}
COUNTERS = {
    "cache_queried_tokens": (
        "lfm_prefix_cache_queried_tokens",
        "Prompt tokens that were looked up in the prefix cache.",
    ),
    "cache_hit_tokens": ("lfm_prefix_cache_hit_tokens", "Of the tokens looked up, those found and not computed again."),
    "cache_evicted_tokens": ("lfm_prefix_cache_evicted_tokens", "Tokens that left the prefix cache for want of room."),
    "preemptions": ("lfm_preemptions", "Running sequences that were set aside for want of memory, to go on later."),
}


class EngineCollector(Collector):
    """What the engine holds. Nothing before `stats` is set, which is while the model loads."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.stats: Callable[[], EngineStats] | None = None
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        ready = self._ready()
        yield GaugeMetricFamily("lfm_ready", "Whether requests are taken, as /ready says: 1 or 0.", value=ready)
        if self.stats is None:
            return
        stats = self.stats()
        for field, (name, text) in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=getattr(stats, field))
        for field, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(stats, field))


class IntervalCollector(Collector):
    """A histogram that takes a whole batch's times at once, most of which are the same; `bounds` are its buckets'."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, intervals: Iterable[float]) -> None:
        """On any thread; in seconds."""
        with self._lock:
            for interval, count in Counter(intervals).items():
                self._counts[bisect_left(self._bounds, interval)] += count
                self._sum += interval * count

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            counts, total = list(accumulate(self._counts)), self._sum
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        yield HistogramMetricFamily(
            "lfm_inter_token_latency_seconds",
            "Between a sequence's tokens, for each but its first.",
            buckets=list(zip(bounds, counts, strict=True)),
            sum_value=total,
        )


class TokenCollector(Collector):
    """Tokens in and out, of the requests that are over and of those that are `open`: none is counted on its own."""

    def __init__(self, open: Collection[RequestLogEntry]) -> None:
        self._open = open
        self._prompt = 0
        self._generated = 0

    def over(self, completion: AnyCompletion) -> None:
        """A request is open no more."""
        self._prompt += _prompt_tokens(completion)
        self._generated += completion.completion_tokens

    def collect(self) -> Iterator[Metric]:
        running = [entry.completion for entry in self._open if entry.completion is not None]
        yield CounterMetricFamily(
            "lfm_prompt_tokens",
            "Prompt tokens, cached ones too, of the requests that something was answered to: usage.prompt_tokens of "
            "those that ended well, and of those that failed or were left by their client after the first token.",
            value=self._prompt + sum(map(_prompt_tokens, running)),
        )
        yield CounterMetricFamily(
            "lfm_generation_tokens",
            "Tokens generated, as usage.completion_tokens counts them; of requests that failed or were left by their "
            "client those that came before that.",
            value=self._generated + sum(completion.completion_tokens for completion in running),
        )


def _prompt_tokens(completion: AnyCompletion) -> int:
    return completion.prompt_tokens if completion.answered else 0
