"""Derives the roles of a graph's inputs and outputs from their names and shapes.

`past_conv.3` and `present_conv.3` are the same state before and after a run. A state with four axes is a KV cache, one
with three axes a convolution window.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from server.errors import UnsupportedModelError

NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {  # by onnxruntime's name of the dtype
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
}
TRACE_PREFIX = "trace."
PADDING = 1.5
"""The limit on padding in a run (see `server.runtime.joined_cache`).

It is the largest ratio of past positions, including padding, to past tokens.
"""
KEPT_LOGITS = "num_logits_to_keep"
KEPT_POSITIONS = "kept_positions"
"""The input with the positions of a step that the layers after the last attention compute."""
KEPT_AXIS = "kept"
"""The name of the axis of these positions in shapes."""
TOKEN_INPUTS = ("input_ids", "attention_mask", "position_ids", KEPT_LOGITS, KEPT_POSITIONS)


class TensorInfo(Protocol):
    """An input or output as onnxruntime describes it."""

    name: str
    shape: list[int | str | None]
    type: str


class StateKind(StrEnum):
    """The kind of a state tensor.

    KV: grows by one position per token.
    CONV: a convolution window, with a fixed size.
    """

    KV = "kv"
    CONV = "conv"


@dataclass(frozen=True, slots=True)
class StateTensor:
    """One state tensor of one layer.

    past, present: names of the input and the output.
    shape: (kv_heads, head_dim) for KV, (hidden, L) for a convolution window of L values.
    trace: name of an output with the past window and the new tokens' values; None if the graph has none.
    in_tail: whether the trace has only the values of kept positions (see `Contract.kept_positions`).

    The trace of S tokens is [batch, L + S, hidden]. Its rows n to n + L - 1, transposed, are the window after the first
    n tokens.
    """

    past: str
    present: str
    kind: StateKind
    shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    trace: str | None = None  # costs time only if it is bound
    in_tail: bool = False

    @property
    def bytes_per_token(self) -> int:
        """The number of bytes that each token adds to a sequence's state; 0 for a window."""
        return int(np.prod(self.shape)) * self.dtype.itemsize if self.kind is StateKind.KV else 0


@dataclass(frozen=True, slots=True)
class Contract:
    """The roles of a graph's inputs and outputs.

    states: the state tensors, in the order of the graph's inputs.
    token_dtypes: dtype of each input that is not a state, by name (see TOKEN_INPUTS).
    logits_dtype: float32 or float16.
    joins: whether a run returns new KV caches instead of updating the past ones in place.
    """

    states: tuple[StateTensor, ...]
    token_dtypes: dict[str, np.dtype[np.generic]]
    vocab_size: int
    logits_dtype: np.dtype[np.generic]
    joins: bool = False

    @property
    def bytes_per_token(self) -> int:
        """The number of bytes that each token of a running sequence needs."""
        state = sum(state.bytes_per_token for state in self.states)
        return int(state * (1 + 2 * PADDING)) if self.joins else state  # the slot, and a run's two caches

    @property
    def is_traceable(self) -> bool:
        """Whether a run can return the convolution windows after any of its tokens."""
        return all(state.trace is not None for state in self.states if state.kind is StateKind.CONV)

    @property
    def keeps_logits(self) -> bool:
        """Whether the graph can return logits for the last positions only."""
        return KEPT_LOGITS in self.token_dtypes

    @property
    def skips_positions(self) -> bool:
        """Whether the layers after the last attention can skip positions."""
        return KEPT_POSITIONS in self.token_dtypes

    def kept_positions(self, length: int, counts: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return the positions of a step that the layers after the last attention must compute, ascending.

        length: number of tokens in the step.
        counts: numbers of leading tokens after which the convolution windows are needed.

        For each count and for the whole step, these are the last position and as many before it as the convolutions of
        these layers look back.
        """
        look_back = sum(state.shape[1] for state in self.states if state.in_tail)
        if not self.skips_positions or length <= look_back:
            return np.arange(length)
        ends = {*counts, length} if look_back else {length}
        return np.unique(np.concatenate([np.arange(max(0, end - look_back - 1), end) for end in ends]))


def discover(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], head_dim: int | None = None) -> Contract:
    """Derive the contract from a session's inputs and outputs.

    head_dim: size of the KV cache's last axis if the graph has only a symbol for it; None if unknown.

    Raises UnsupportedModelError if the graph is not a supported decoder.
    """
    past = [i for i in inputs if i.name.startswith("past")]
    tokens = [i for i in inputs if not i.name.startswith("past")]
    token_dtypes = {i.name: _dtype(i) for i in tokens}
    missing = [name for name in ("input_ids", "attention_mask") if name not in token_dtypes]
    unknown = [name for name in token_dtypes if name not in TOKEN_INPUTS]
    logits = next((o for o in outputs if o.name == "logits"), None)
    if missing or unknown or not past or logits is None:
        raise UnsupportedModelError(_mismatch(inputs, outputs, missing, unknown, bool(past)))
    presents = {_layer_key(o.name): o for o in outputs if o.name.startswith("present")}
    vocab_size = logits.shape[-1]
    if not isinstance(vocab_size, int):
        raise UnsupportedModelError(
            f"Output logits has shape {logits.shape}: its last axis must be a number, the vocabulary size."
        )
    return Contract(
        states=tuple(_state(i, presents, {o.name: o for o in outputs}, head_dim) for i in past),
        token_dtypes=token_dtypes,
        vocab_size=vocab_size,
        logits_dtype=_dtype(logits),
    )


def _state(
    past: TensorInfo, presents: dict[tuple[str, ...], TensorInfo], outputs: dict[str, TensorInfo], head_dim: int | None
) -> StateTensor:
    present = presents.get(_layer_key(past.name))
    if present is None:
        raise UnsupportedModelError(f"Input {past.name} has no matching present output; found {_names(presents)}.")
    if isinstance(past.shape[0], int):
        raise UnsupportedModelError(f"Input {past.name} has a fixed batch size, {past.shape[0]}; it must be symbolic.")
    if len(past.shape) == 4:
        last = past.shape[3] if isinstance(past.shape[3], int) else head_dim
        kind, shape = StateKind.KV, (past.shape[1], last)
    else:
        kind, shape = StateKind.CONV, tuple(past.shape[1:])  # type: ignore[assignment]
    if len(past.shape) not in (3, 4) or not all(isinstance(size, int) for size in shape):
        raise UnsupportedModelError(
            f"Input {past.name} has shape {past.shape}; expected [batch, kv_heads, length, head_dim] or "
            "[batch, hidden, L], with kv_heads, head_dim, hidden and L known."
        )
    trace = outputs.get(f"{TRACE_PREFIX}{past.name}")
    traced, in_tail = (trace.name, KEPT_AXIS in trace.shape) if trace is not None else (None, False)
    return StateTensor(past.name, present.name, kind, shape, _dtype(past), traced, in_tail)  # type: ignore[arg-type]


def _layer_key(name: str) -> tuple[str, ...]:
    """Return a key that is the same for a layer's past input and its present output.

    Example: ("3", "conv") for `past_conv.3` and `present_conv.3`.
    """
    return tuple(sorted(re.findall(r"[^._]+", re.sub(r"^(past_key_values|past|present)", "", name))))


def _dtype(info: TensorInfo) -> np.dtype[np.generic]:
    if info.type not in NUMPY_DTYPES:
        raise UnsupportedModelError(f"{info.name} is a {info.type}; expected one of {', '.join(NUMPY_DTYPES)}.")
    return NUMPY_DTYPES[info.type]


def _names(infos: dict[tuple[str, ...], TensorInfo]) -> str:
    return ", ".join(info.name for info in infos.values()) or "none"


def _mismatch(
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    missing: list[str],
    unknown: list[str],
    has_past: bool,
) -> str:
    problems = [f"input {name} is missing" for name in missing]
    problems += [f"input {name} is unknown" for name in unknown]
    if not has_past:
        problems.append("no input holds past state (is this an encoder, or a decoder exported without a cache?)")
    if not any(o.name == "logits" for o in outputs):
        problems.append("there is no output named logits")
    return (
        f"This graph cannot be served: {'; '.join(problems)}. Found inputs {', '.join(i.name for i in inputs)} and "
        f"outputs {', '.join(o.name for o in outputs)}; expected a decoder with input_ids, attention_mask, past state "
        "(past_key_values.N.key/.value, past_conv.N) and optionally position_ids and num_logits_to_keep."
    )
