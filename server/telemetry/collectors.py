"""Collectors that build their metrics at each scrape."""

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

from server.api.http.request_records import RequestLogEntry
from server.chat.completion import AnyCompletion
from server.engine.observations import EngineStats

GAUGES = {
    "running": ("lfm_requests_running", "Sequences that have a slot, in prefill or decode."),
    "waiting": ("lfm_requests_waiting", "Sequences waiting for a slot."),
    "suspended": ("lfm_requests_suspended", "Sequences that have no slot because their client reads too slowly."),
    "waiting_tokens": ("lfm_waiting_tokens", "Tokens of the sequences waiting for a slot."),
    "slots": ("lfm_slots", "Maximum number of sequences that can run at once."),
    "slot_tokens": ("lfm_slot_tokens", "Tokens whose state is held in the slots."),
    "slot_tokens_budget": ("lfm_slot_tokens_budget", "Maximum number of tokens whose state the slots may hold."),
    "slot_usage": (
        "lfm_slot_usage_ratio",
        "Share of the slots' token budget in use, from 0 to 1. The prefix cache does not count.",
    ),
    "cache_tokens": ("lfm_prefix_cache_tokens", "Tokens whose state the prefix cache holds."),
    "cache_bytes": ("lfm_prefix_cache_bytes", "Size of the prefix cache in bytes."),
    "cache_window_bytes": (
        "lfm_prefix_cache_window_bytes",
        "Bytes of the prefix cache taken by the convolution windows of its checkpoints.",
    ),
    "cache_bytes_budget": ("lfm_prefix_cache_bytes_budget", "Maximum size of the prefix cache in bytes."),
}
"""Name and help text of each gauge, by field of EngineStats."""

DISK_GAUGES = {
    "bytes": ("lfm_disk_cache_bytes", "Size of all entries in the cache folder in bytes, as last counted."),
    "bytes_budget": ("lfm_disk_cache_bytes_budget", "Maximum size of all entries in the cache folder in bytes."),
    "writable": ("lfm_disk_cache_writable", "1 if the last write to the cache folder succeeded; otherwise 0."),
}
"""Name and help text of each gauge of the cache folder, by field of DiskStats."""

COUNTERS = {
    "cache_queried_tokens": ("lfm_prefix_cache_queried_tokens", "Prompt tokens looked up in the prefix cache."),
    "cache_hit_tokens": ("lfm_prefix_cache_hit_tokens", "Prompt tokens found in the prefix cache and not computed."),
    "cache_evicted_tokens": ("lfm_prefix_cache_evicted_tokens", "Tokens evicted from the prefix cache to make room."),
    "disk_hit_tokens": ("lfm_disk_cache_hit_tokens", "Prompt tokens whose state was read from disk and not computed."),
    "preemptions": ("lfm_preemptions", "Running sequences preempted because memory ran out, to be resumed later."),
}
"""Name and help text of each counter, by field of EngineStats."""

DISK_COUNTERS = {
    "read_blocks": ("lfm_disk_cache_read_blocks", "Blocks read from the cache folder."),
    "read_bytes": ("lfm_disk_cache_read_bytes", "Bytes read from the cache folder."),
    "read_seconds": ("lfm_disk_cache_read_seconds", "Seconds spent on reading blocks from the cache folder."),
    "written_blocks": ("lfm_disk_cache_written_blocks", "Blocks written to the cache folder."),
    "written_bytes": ("lfm_disk_cache_written_bytes", "Bytes written to the cache folder."),
    "write_seconds": ("lfm_disk_cache_write_seconds", "Seconds spent on writing blocks to the cache folder."),
    "evicted_blocks": ("lfm_disk_cache_evicted_blocks", "Blocks that this server evicted from the cache folder."),
    "dropped_blocks": ("lfm_disk_cache_dropped_blocks", "Blocks not written because the disk did not keep up."),
    "damaged_files": ("lfm_disk_cache_damaged_files", "Damaged files removed from the cache folder."),
    "errors": ("lfm_disk_cache_errors", "Failed reads and writes of the cache folder."),
    "slow_reads": ("lfm_disk_cache_slow_reads", "Prompts computed because reading their blocks would take longer."),
}
"""Name and help text of each counter of the cache folder, by field of DiskStats."""


class EngineCollector(Collector):
    """The gauge `lfm_ready` and the engine's statistics.

    stats: a function that returns the statistics; None while the model is loading.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.stats: Callable[[], EngineStats] | None = None
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        ready = self._ready()
        yield GaugeMetricFamily(
            "lfm_ready", "1 if the server accepts requests, as /ready reports; otherwise 0.", value=ready
        )
        if self.stats is None:
            return
        stats = self.stats()
        for source, gauges in ((stats, GAUGES), (stats.disk, DISK_GAUGES)):
            for field, (name, text) in gauges.items():
                yield GaugeMetricFamily(name, text, value=getattr(source, field))
        for source, counters in ((stats, COUNTERS), (stats.disk, DISK_COUNTERS)):
            for field, (name, text) in counters.items():
                yield CounterMetricFamily(name, text, value=getattr(source, field))


class IntervalCollector(Collector):
    """Histogram of inter-token latencies, updated for a whole batch at once.

    bounds: upper bounds of the buckets, in seconds.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, intervals: Iterable[float]) -> None:
        """Add latencies, in seconds. Thread-safe."""
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
            "Seconds between two consecutive tokens of a sequence.",
            buckets=list(zip(bounds, counts, strict=True)),
            sum_value=total,
        )


class TokenCollector(Collector):
    """Counters of prompt and generated tokens.

    Each scrape counts the tokens of the running requests, so that generating a token updates no counter.

    open: log entries of the running requests.
    """

    def __init__(self, open: Collection[RequestLogEntry]) -> None:
        self._open = open
        self._prompt = 0
        self._generated = 0

    def finish(self, completion: AnyCompletion) -> None:
        """Count the tokens of a finished request, which must no longer be in `open`."""
        self._prompt += _prompt_tokens(completion)
        self._generated += completion.completion_tokens

    def collect(self) -> Iterator[Metric]:
        running = [entry.completion for entry in self._open if entry.completion is not None]
        yield CounterMetricFamily(
            "lfm_prompt_tokens",
            "Prompt tokens (usage.prompt_tokens), including cached ones, of requests that produced any output, even if "
            "they later failed or were cancelled.",
            value=self._prompt + sum(map(_prompt_tokens, running)),
        )
        yield CounterMetricFamily(
            "lfm_generation_tokens",
            "Generated tokens (usage.completion_tokens), including those of requests that later failed or were "
            "cancelled.",
            value=self._generated + sum(completion.completion_tokens for completion in running),
        )


def _prompt_tokens(completion: AnyCompletion) -> int:
    return completion.prompt_tokens if completion.answered else 0
