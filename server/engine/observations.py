"""Defines the observation of a step and the statistics of the engine."""

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

    DECODE: one token of every decoding sequence. PREFILL: one chunk of a prompt.
    """

    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class StepObservation:
    """Facts about one executed step.

    `threads`: number of threads of the session that executed the step.
    `sequences`: number of sequences in the batch.
    `tokens`: number of tokens computed, summed over the batch.
    `seconds`: duration of the whole step.
    `run_seconds`: duration of the model's run within the step; 0 if the step failed.
    `intervals`: for each sequence of a decode step, seconds since its previous token. Empty for a prefill step.
    `failed`: whether the step raised an error. The sequences of a failed step end.
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
    """Statistics of the engine at one moment.

    `cache_queried_tokens`, `cache_hit_tokens`, `cache_evicted_tokens`, `disk_hit_tokens` and `preemptions` are totals
    since the start of the engine. The other fields are current values.

    `running`: number of sequences with a slot.
    `waiting`: number of sequences in the queue.
    `suspended`: number of sequences whose client does not keep up. They have no slot and are not in the queue.
    `waiting_tokens`: number of tokens of the sequences in the queue.
    `slots`: maximum number of sequences that can run at once.
    `slot_tokens`: number of tokens that running sequences hold in their slots.
    `slot_tokens_budget`: limit on `slot_tokens`.
    `cache_tokens`: number of tokens in the prefix cache.
    `cache_bytes`: size of the prefix cache.
    `cache_bytes_budget`: limit on `cache_bytes`.
    `cache_window_bytes`: the part of `cache_bytes` that the convolution windows of checkpoints take.
    `cache_queried_tokens`: number of prompt tokens looked up in the prefix cache.
    `cache_hit_tokens`: number of prompt tokens found in the prefix cache.
    `cache_evicted_tokens`: number of tokens evicted from the prefix cache.
    `preemptions`: number of times that a sequence lost its slot because the slots held too many tokens.
    `disk_hit_tokens`: the part of `cache_hit_tokens` whose state was read from disk.
    `disk`: statistics of the prefix cache on disk; all zero if there is none.
    `oldest_step_since`: start of the step that has been running longest (monotonic clock, in seconds); None if no step
    is running.
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
    oldest_step_since: float | None = None

    @property
    def slot_usage(self) -> float:
        """Share of `slot_tokens_budget` in use, from 0 to 1. A sequence that runs alone may exceed the budget."""
        return min(1.0, self.slot_tokens / self.slot_tokens_budget)


def collect(state: EngineState, config: EngineConfig) -> EngineStats:
    """Return the statistics of an engine. Must be called under the engine's lock."""
    cache, disk = state.cache, state.disk
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
        oldest_step_since=min((step.started_at for step in state.running_steps), default=None),
    )
