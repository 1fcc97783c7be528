"""One ONNX Runtime session and the steps it runs on the slots' state: tokens in, logits out.

Knows nothing of requests or sampling. Several sessions may work on one SlotPool, each on slots of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from server.errors import UnsupportedModelError
from server.runtime.contract import StateKind, StateTensor, discover
from server.runtime.graph import Graph
from server.runtime.native.library import load_library
from server.runtime.slots import SlotPool

PROBE_LENGTH = 4


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """`threads` compute threads; `max_tokens` is the most tokens one run gets (rows x length)."""

    threads: int
    max_tokens: int


class ModelSession:
    """A loaded graph. `run` is one step; it is not thread-safe: a session serves one thread at a time."""

    def __init__(self, graph: Graph, options: SessionOptions, head_dim: int | None = None) -> None:
        """Load `graph`; raises UnsupportedModelError where onnxruntime or the contract refuses it."""
        self._session = _open(graph, options.threads)
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
        self._traced_length = 0
        if not graph.prepared:  # a prepared copy was checked when it was made
            self._check_state_is_updated_in_place()

    def run(
        self,
        slots: SlotPool,
        first: int,
        tokens: npt.NDArray[np.int64],
        past: npt.NDArray[np.int64],
        every_position: bool = False,
        traced: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Run `tokens` [B, S] on slots first .. first+B-1, whose sequences have `past` [B] tokens so far.

        S > 1 needs B = 1. Returns the logits after each row's last token, [B, vocab] float32, or those after every
        token, [B * S, vocab]; valid until the next run. The state advances only when the run succeeds: KV beyond
        `past` is not looked at, and convolution windows are written here and copied at the end. After a run of one
        sequence that was `traced`, `windows_after` tells them for each of its tokens.
        """
        if slots is not self._slots:
            self._adopt(slots)
        batch, length = tokens.shape
        kept = length if every_position or not self.contract.keeps_logits else 1
        binding = self._bind_states(slots, first, batch) if traced else self._bound_states(slots, first, batch)
        for name, value in self._token_inputs(tokens, past, kept).items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
        if traced:
            for state in self.contract.states:
                if state.trace is not None:
                    trace = ort.OrtValue.ortvalue_from_numpy(self._trace(state, length))
                    binding.bind_ortvalue_output(state.trace, trace)
        logits = self._logits[: batch * kept * self.contract.vocab_size].reshape(batch, kept, -1)
        binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(logits))
        self._session.run_with_iobinding(binding)
        for state in self.contract.states:
            if state.kind is StateKind.CONV:
                slots.arrays[state.past][first : first + batch] = self._windows[state.past][:batch]
        self._traced_length = length
        wanted = logits.reshape(batch * kept, -1) if every_position else logits[:, -1]
        return wanted.astype(np.float32, copy=False)

    def windows_after(self, count: int) -> dict[str, npt.NDArray[np.generic]]:
        """The convolutions' windows [hidden, L] after the first `count` tokens of the last run, which was traced.

        Views by the past inputs' names, valid until the next run.
        """
        return {
            state.past: self._trace(state, self._traced_length)[0, count : count + state.shape[1]].T
            for state in self.contract.states
            if state.trace is not None
        }

    def _adopt(self, slots: SlotPool) -> None:
        """Work on other slots from now on; `_windows` is scratch for as many present windows as there are slots."""
        self._slots, self._bindings = slots, {}
        self._windows = {
            state.past: np.empty((slots.n_slots, *state.shape), state.dtype)
            for state in self.contract.states
            if state.kind is StateKind.CONV
        }

    def _bound_states(self, slots: SlotPool, first: int, batch: int) -> ort.IOBinding:
        """As `_bind_states`, but bound once: a decode step's time is worth more than a few hundred small objects."""
        if (first, batch) not in self._bindings:
            self._bindings[first, batch] = self._bind_states(slots, first, batch)
        return self._bindings[first, batch]

    def _bind_states(self, slots: SlotPool, first: int, batch: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        for state in self.contract.states:
            # onnxruntime works on the slots' own memory, which outlives the binding.
            view = slots.arrays[state.past][first : first + batch]
            ours = ort.OrtValue.ortvalue_from_numpy(view)
            binding.bind_ortvalue_input(state.past, ours)
            if state.kind is StateKind.CONV:
                ours = ort.OrtValue.ortvalue_from_numpy(self._windows[state.past][:batch])
            binding.bind_ortvalue_output(state.present, ours)
        return binding

    def _trace(self, state: StateTensor, length: int) -> npt.NDArray[np.generic]:
        hidden, window = state.shape
        return self._traces[state.past][: hidden * (window + length)].reshape(1, window + length, hidden)

    def _token_inputs(
        self, tokens: npt.NDArray[np.int64], past: npt.NDArray[np.int64], kept: int
    ) -> dict[str, npt.NDArray[np.generic]]:
        length = tokens.shape[1]
        total = past + length
        values = {
            "input_ids": tokens,
            "attention_mask": np.arange(total.max()) < total[:, None],
            "position_ids": past[:, None] + np.arange(length),
            "num_logits_to_keep": np.array(kept),
        }
        dtypes = self.contract.token_dtypes
        return {name: np.ascontiguousarray(values[name], dtypes[name]).reshape(values[name].shape) for name in dtypes}

    def _check_state_is_updated_in_place(self) -> None:
        """Two short steps: fails here, with a reason, rather than at the first request."""
        slots = SlotPool(self.contract.states, 1, PROBE_LENGTH)
        try:
            self.run(slots, 0, np.zeros((1, 2), np.int64), np.array([0]))
            self.run(slots, 0, np.zeros((1, 1), np.int64), np.array([2]))
        except Exception as error:
            raise UnsupportedModelError(
                "This graph cannot be served: a trial step failed. Expected attention that updates a KV cache of fixed "
                f"length in place (GroupQueryAttention) and convolution windows of constant size. {error}"
            ) from error


def _open(graph: Graph, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Every step has another shape: remembered patterns would only pile up.
    options.enable_mem_pattern = False
    # Threads spin between the operators of a run, never between runs: an idle server costs nothing.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.weights))
    if graph.native:
        options.register_custom_ops_library(str(load_library().path))
    elif graph.prepared:  # onnxruntime wrote it, and has nothing left to do
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UnsupportedModelError(f"onnxruntime {ort.__version__} cannot load {graph.name}: {error}") from error
