"""Exposes metrics under vLLM's names, for gateways, autoscalers and dashboards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.engine.observations import EngineStats
from server.kv_events.blocks import BLOCK_TOKENS

GAUGES = {
    "running": ("vllm:num_requests_running", "Sequences that have a slot, in prefill or decode."),
    "waiting": ("vllm:num_requests_waiting", "Sequences waiting for a slot."),
    "slot_usage": (
        "vllm:kv_cache_usage_perc",
        "Share of the slots' token budget in use, from 0 to 1. The prefix cache does not count.",
    ),
}
"""Name and help text of each gauge, by field of EngineStats."""

VLLM_NAMES = {
    "lfm_prompt_tokens": "vllm:prompt_tokens",
    "lfm_generation_tokens": "vllm:generation_tokens",
    "lfm_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "lfm_request_seconds": "vllm:e2e_request_latency_seconds",
}
"""vLLM's names of counters and histograms, by this server's names."""


class VllmCollector(Collector):
    """Metrics under vLLM's names, with the label `model_name`."""

    def __init__(self, model_name: str, originals: Sequence[Collector]) -> None:
        """Create a collector for a model that is loading.

        originals: collectors of the metrics in `VLLM_NAMES`.
        """
        self._label = {"model_name": model_name}
        self._originals = originals
        self._stats: Callable[[], EngineStats] | None = None
        self._cache_blocks = 0

    def serve(self, stats: Callable[[], EngineStats], cache_blocks: int) -> None:
        """Start reporting a loaded model.

        stats: returns the engine's statistics.
        cache_blocks: capacity of the prefix cache in blocks.
        """
        self._cache_blocks, self._stats = cache_blocks, stats

    def collect(self) -> Iterator[Metric]:
        stats = None if self._stats is None else self._stats()
        for field, (name, text) in GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=list(self._label))
            gauge.add_metric(list(self._label.values()), 0 if stats is None else getattr(stats, field))
            yield gauge
        if stats is not None:
            labels = self._label | {"block_size": str(BLOCK_TOKENS), "num_gpu_blocks": str(self._cache_blocks)}
            text = "Tokens per block, and the number of blocks for which the prefix cache has room; the value is 1."
            info = GaugeMetricFamily("vllm:cache_config_info", text, labels=list(labels))
            info.add_metric(list(labels.values()), 1)
            yield info
        for original in self._originals:
            for metric in original.collect():
                yield self._renamed(metric)

    def _renamed(self, metric: Metric) -> Metric:
        """Return a copy of `metric` under its name in VLLM_NAMES."""
        name = VLLM_NAMES[metric.name]
        renamed = Metric(name, metric.documentation, metric.type)
        for sample in metric.samples:
            suffix = sample.name.removeprefix(metric.name)
            renamed.add_sample(name + suffix, sample.labels | self._label, sample.value)
        return renamed
