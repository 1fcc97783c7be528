"""The observation of a step and the statistics of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from server.cache_folder.statistics import DiskStats

if TYPE_CHECKING:
    from server.engine.config import EngineConfig
    from server.engine.engine_state import EngineState


class StepKind(StrEnum):
    """The kind of a step.

    DECODE: one token of every decoding sequence.
    PREFILL: one chunk of a prompt.
    """

    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Facts about one executed step.

    threads: number of threads of the session.
    sequences: number of sequences in the batch.
    tokens: number of tokens computed, summed over the batch.
    seconds: duration of the whole step.
    run_seconds: duration of the model's run; 0 if the step failed.
    intervals: for each decoded sequence, the seconds since its previous token.
    failed: whether the step raised an error, which ends its sequences.
    """

    kind: StepKind
    threads: int
    sequences: int
    tokens: int
    seconds: float
    run_seconds: float
    intervals: tuple[float, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Statistics of the engine: current values, and totals since its start.

    running: number of sequences with a slot.
    waiting: number of sequences in the queue.
    waiting_tokens: number of tokens in the queue's sequences.
    suspended: number of sequences that lost their slots because their clients read too slowly.
    slots: number of slots, so the maximum number of running sequences.
    slot_tokens: number of computed tokens in the slots, limited by `slot_tokens_budget`.
    cache_tokens: number of tokens in the prefix cache.
    cache_bytes: size of the prefix cache, limited by `cache_bytes_budget`.
    cache_window_bytes: part of `cache_bytes` for convolution windows.
    cache_queried_tokens: total number of prompt tokens looked up in the prefix cache.
    cache_hit_tokens: total number of prompt tokens found in the prefix cache.
    cache_evicted_tokens: total number of tokens evicted from the prefix cache.
    preemptions: total number of preemptions, for lack of memory or for fairness.
    disk_hit_tokens: part of `cache_hit_tokens` that was read from disk.
    disk: statistics of the prefix cache on disk.
    prefill_token_seconds: predicted time to prefill one token of a long prompt; 0 if no prefill step has been timed.
    oldest_step_since: start of the longest-running step, in monotonic seconds; None if no step is running.
    """

    running: int
    waiting: int
    waiting_tokens: int
    slots: int
    slot_tokens: int
    slot_tokens_budget: int
    suspended: int = 0
    cache_tokens: int = 0
    cache_bytes: int = 0
    cache_window_bytes: int = 0
    cache_bytes_budget: int = 0
    cache_queried_tokens: int = 0
    cache_hit_tokens: int = 0
    cache_evicted_tokens: int = 0
    preemptions: int = 0
    disk_hit_tokens: int = 0
    disk: DiskStats = field(default_factory=DiskStats)
    prefill_token_seconds: float = 0.0
    oldest_step_since: float | None = None

    @property
    def slot_usage(self) -> float:
        """Share of `slot_tokens_budget` in use, from 0 to 1."""
        return min(1.0, self.slot_tokens / self.slot_tokens_budget)


def collect(state: EngineState, config: EngineConfig) -> EngineStats:
    """Return the statistics of an engine, whose lock must be held."""
    cache, disk = state.cache, state.disk
    chunk = state.policy.max_chunk
    return EngineStats(
        running=state.running,
        waiting=len(state.waiting),
        suspended=len(state.suspended),
        waiting_tokens=sum(s.length for s in state.waiting),
        slots=config.max_seqs,
        slot_tokens=sum(s.computed for s in (*state.prefilling, *state.decoding)),
        slot_tokens_budget=config.slot_tokens,
        cache_tokens=cache.tokens,
        cache_bytes=cache.nbytes,
        cache_window_bytes=cache.window_bytes,
        cache_bytes_budget=cache.budget,
        cache_queried_tokens=cache.queried_tokens,
        cache_hit_tokens=cache.hit_tokens,
        cache_evicted_tokens=cache.evicted_tokens,
        preemptions=state.preemptions,
        disk_hit_tokens=0 if disk is None else disk.hit_tokens,
        disk=DiskStats() if disk is None else disk.disk.stats(),
        prefill_token_seconds=state.costs.seconds(StepKind.PREFILL, state.policy.wide, chunk) / chunk,
        oldest_step_since=min((step.started_at for step in state.running_steps), default=None),
    )
