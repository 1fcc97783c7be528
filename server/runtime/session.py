"""Runs steps of one ONNX Runtime session on the state in the slots.

A step takes tokens and returns logits. Sessions may share a SlotPool if they use different slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from server.errors import UnsupportedModelError
from server.runtime.contract import KEPT_LOGITS, KEPT_POSITIONS, StateKind, StateTensor, discover
from server.runtime.graph import Graph
from server.runtime.joined_cache import JoinedCache, token_mask
from server.runtime.native.library import load_library
from server.runtime.slots import SlotPool

PROBE_LENGTH = 4


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Options of one session.

    threads: number of compute threads.
    max_tokens: maximum number of tokens in one run, rows times length.
    """

    threads: int
    max_tokens: int


class ModelSession:
    """A loaded graph that runs one step at a time. Not thread-safe."""

    def __init__(
        self,
        graph: Graph,
        options: SessionOptions,
        head_dim: int | None = None,
        proven: ModelSession | None = None,
    ) -> None:
        """Load `graph`.

        head_dim: size of the KV cache's last axis if the graph has only a symbol for it; None if unknown.
        proven: an open session of the same graph, which has passed the trial steps; None to run them.

        Raises UnsupportedModelError if the graph cannot be served.
        """
        # onnxruntime uses these values in place, and does not keep them.
        self._weights = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in graph.tensors.items()}
        self._session = _open(graph, options.threads, self._weights)
        self.contract = discover(self._session.get_inputs(), self._session.get_outputs(), head_dim)
        self.threads = options.threads
        self.traceable = self.contract.is_traceable
        contract = self.contract
        self._logits = np.empty(options.max_tokens * contract.vocab_size, contract.logits_dtype)
        self._slots: SlotPool | None = None
        self._windows: dict[str, npt.NDArray[np.generic]] = {}
        self._bindings: dict[tuple[int, int], ort.IOBinding] = {}
        self._traces = {
            state.past: np.empty(state.shape[0] * (state.shape[1] + options.max_tokens), state.dtype)
            for state in contract.states
            if state.trace is not None
        }
        # The positions that the last run's tail computed. The last one is that of the run's last token.
        self._positions: npt.NDArray[np.int64] = np.arange(0)
        self._joined: JoinedCache | None = None
        if proven is None:
            self._try_steps()
        else:
            self.contract = proven.contract
            self._joined = JoinedCache(proven.contract.states, proven._joined.pads) if proven._joined else None

    def run(
        self,
        slots: SlotPool,
        first: int,
        tokens: npt.NDArray[np.int64],
        past: npt.NDArray[np.int64],
        every_position: bool = False,
        counts: Sequence[int] = (),
    ) -> npt.NDArray[np.float32]:
        """Run one step and return its logits, float32, valid until the next run.

        first: row i uses slot `first` + i.
        tokens: S new tokens for each of B rows, [B, S]. B must be 1 if S > 1.
        past: number of earlier tokens of each row, [B].
        every_position: if True, the logits are [B * S, vocab], otherwise [B, vocab] for the last tokens.
        counts: numbers of new tokens after which the windows are needed (see `windows_after`). B must be 1 if there
            are any.

        A failed run does not change the state.
        """
        if slots is not self._slots:
            self._adopt(slots)
        if self._joined is not None and not self._joined.takes(past):
            return self._run_one_by_one(slots, first, tokens, past, every_position)
        batch, length = tokens.shape
        positions = np.arange(length) if every_position else self.contract.kept_positions(length, counts)
        n_logits = 1 if self.contract.keeps_logits and not every_position else len(positions)
        if counts or self._joined is not None:
            binding = self._bind_states(slots, first, batch)
        else:
            binding = self._bound_states(slots, first, batch)
        if self._joined is not None:
            self._joined.bind(binding, slots, first, past, length)
        for name, value in self._token_inputs(tokens, past, positions, n_logits).items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
        self._positions = positions
        if counts:
            for state in self.contract.states:
                if state.trace is not None:
                    trace = ort.OrtValue.ortvalue_from_numpy(self._trace(state))
                    binding.bind_ortvalue_output(state.trace, trace)
        logits = self._logits[: batch * n_logits * self.contract.vocab_size].reshape(batch, n_logits, -1)
        binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
        self._session.run_with_iobinding(binding)
        if self._joined is not None:
            self._joined.store(slots, first, past, length)
        # Only now, because a failed run must not change the state. New KV values lie beyond `past`.
        for state in self.contract.states:
            if state.kind is StateKind.CONV:
                slots.arrays[state.past][first : first + batch] = self._windows[state.past][:batch]
        wanted = logits.reshape(batch * n_logits, -1) if every_position else logits[:, -1]
        return wanted.astype(np.float32, copy=False)

    def windows_after(self, count: int) -> dict[str, npt.NDArray[np.generic]]:
        """Return the convolution windows after `count` tokens of the last run, one of its `counts`.

        The windows are views, valid until the next run, keyed by `StateTensor.past`. Each is [hidden, L] (see
        `StateTensor`).
        """
        begin_in_tail = int(np.searchsorted(self._positions, count))
        windows = {}
        for state in self.contract.states:
            if state.trace is not None:
                begin = begin_in_tail if state.in_tail else count
                windows[state.past] = self._trace(state)[0, begin : begin + state.shape[1]].T
        return windows

    def _adopt(self, slots: SlotPool) -> None:
        """Use `slots` from now on, and allocate temporary convolution windows for them."""
        self._slots, self._bindings = slots, {}
        self._windows = {
            state.past: np.empty((slots.n_slots, *state.shape), state.dtype)
            for state in self.contract.states
            if state.kind is StateKind.CONV
        }

    def _bound_states(self, slots: SlotPool, first: int, batch: int) -> ort.IOBinding:
        """Return a cached binding of the state in `batch` slots from `first` on.

        A binding has hundreds of small objects, so making one per step takes too long.
        """
        if (first, batch) not in self._bindings:
            self._bindings[first, batch] = self._bind_states(slots, first, batch)
        return self._bindings[first, batch]

    def _bind_states(self, slots: SlotPool, first: int, batch: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        for state in self.contract.states:
            if self._joined is not None and state.kind is StateKind.KV:
                continue
            # onnxruntime works directly on the slots' memory, which outlives the binding.
            view = slots.arrays[state.past][first : first + batch]
            ours = ort.OrtValue.ortvalue_from_numpy(view)
            binding.bind_ortvalue_input(state.past, ours)
            if state.kind is StateKind.CONV:
                ours = ort.OrtValue.ortvalue_from_numpy(self._windows[state.past][:batch])
            binding.bind_ortvalue_output(state.present, ours)
        return binding

    def _trace(self, state: StateTensor) -> npt.NDArray[np.generic]:
        """Return the memory for a state's trace in the current run."""
        hidden, window = state.shape
        length = len(self._positions) if state.in_tail else int(self._positions[-1]) + 1
        return self._traces[state.past][: hidden * (window + length)].reshape(1, window + length, hidden)

    def _token_inputs(
        self,
        tokens: npt.NDArray[np.int64],
        past: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        n_logits: int,
    ) -> dict[str, npt.NDArray[np.generic]]:
        length = tokens.shape[1]
        total = past + length
        values = {
            "input_ids": tokens,
            "attention_mask": token_mask(past, length) if self._joined else np.arange(total.max()) < total[:, None],
            "position_ids": past[:, None] + np.arange(length),
            KEPT_LOGITS: np.array(n_logits),
            KEPT_POSITIONS: positions,
        }
        dtypes = self.contract.token_dtypes
        return {name: np.ascontiguousarray(values[name], dtypes[name]).reshape(values[name].shape) for name in dtypes}

    def _run_one_by_one(
        self,
        slots: SlotPool,
        first: int,
        tokens: npt.NDArray[np.int64],
        past: npt.NDArray[np.int64],
        every_position: bool,
    ) -> npt.NDArray[np.float32]:
        rows = range(len(past))
        runs = (self.run(slots, first + i, tokens[i : i + 1], past[i : i + 1], every_position) for i in rows)
        return np.concatenate([logits.copy() for logits in runs])

    def _try_steps(self) -> None:
        """Run trial steps, so that an unsuitable graph fails before any request.

        The steps also show whether the graph updates its KV caches in place.
        """
        slots = SlotPool(self.contract.states, 2, PROBE_LENGTH)
        try:
            self._two_steps(slots)
        except Exception as error:
            self._joined = JoinedCache(self.contract.states)
            try:
                self._two_steps(slots)
                self._joined.pads = self._pads(slots)
            except Exception:
                raise UnsupportedModelError(
                    "This graph cannot be served, because a trial step failed. Its attention must either update a KV "
                    "cache of fixed length in place (GroupQueryAttention) or return the past and the new values "
                    f"joined. Its convolution windows must have a constant size. Error: {error}"
                ) from error
            self.contract = replace(self.contract, joins=True)

    def _two_steps(self, slots: SlotPool) -> None:
        self.run(slots, 0, np.zeros((1, 2), np.int64), np.array([0]))
        self.run(slots, 0, np.zeros((1, 1), np.int64), np.array([2]))

    def _pads(self, slots: SlotPool) -> bool:
        """Return whether a row's logits stay the same if its past values are padded."""
        assert self._joined is not None
        if "position_ids" not in self.contract.token_dtypes:
            return False
        self.run(slots, 1, np.ones((1, 1), np.int64), np.array([0]))
        tokens, past = np.array([[2], [3]]), np.array([2, 1])
        alone = self._run_one_by_one(slots, 0, tokens, past, every_position=False)
        self._joined.pads = True
        together = self.run(slots, 0, tokens, past)
        return bool(np.allclose(alone, together, rtol=1e-2, atol=1e-3 * np.abs(alone).max()))


def _open(graph: Graph, threads: int, weights: Mapping[str, ort.OrtValue]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # no log, since a failed run raises an exception with the same message
    # Nearly every step has a different shape, so memory patterns by shape would only accumulate.
    options.enable_mem_pattern = False
    # Threads spin between the operators of a run but not between runs, so an idle server uses no CPU time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights))
    for name, value in weights.items():
        options.add_initializer(name, value)
    if graph.native:
        options.register_custom_ops_library(str(load_library().path))
    elif graph.prepared:  # onnxruntime already optimized the graph when it wrote the copy
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnsupportedModelError(f"onnxruntime {ort.__version__} cannot load {graph.name}: {error}") from error
