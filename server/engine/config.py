"""Defines the configuration of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.kv_events.held_blocks import HeldBlocks


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The configuration of an engine.

    max_seqs: number of slots, each for one running sequence.
    max_waiting: maximum number of sequences in the queue.
    max_model_len: maximum number of tokens in a prompt and its answer.
    prefill_chunk: maximum number of prompt tokens in one step.
    slot_tokens: maximum number of tokens in all running sequences together.
    cache_bytes: maximum size of the prefix cache.
    itl_target: target for the maximum time between two tokens of a stream, in seconds.
    unknown_ids: token ids that the tokenizer does not know, which are never drawn; int64.
    max_waiting_tokens: maximum number of prompt tokens in the queue; None if unlimited.
    held_blocks: tracks the blocks in the prefix cache; None to create a new one.
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
