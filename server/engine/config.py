"""Defines the configuration of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.kv_events.held_blocks import HeldBlocks


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The configuration of an engine.

    `max_seqs`: number of slots. One sequence runs in each slot.
    `max_waiting`: maximum number of sequences in the queue.
    `max_model_len`: maximum number of tokens of a prompt and its answer together.
    `prefill_chunk`: maximum number of prompt tokens in one step.
    `slot_tokens`: maximum number of tokens of all running sequences together.
    `cache_bytes`: size of the prefix cache.
    `itl_target`: maximum number of seconds that a stream should wait between two tokens.
    `unknown_ids`: token ids that are not in the vocabulary and must not be drawn, int64.
    `max_waiting_tokens`: maximum number of prompt tokens in the queue; None for no limit.
    `held_blocks`: records which blocks are in the prefix cache, for KV events; None if there are no KV events.
    """

    max_seqs: int
    max_waiting: int
    max_model_len: int
    prefill_chunk: int
    slot_tokens: int
    cache_bytes: int
    itl_target: float
    unknown_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    max_waiting_tokens: int | None = None
    held_blocks: HeldBlocks | None = None
