"""An exported graph run by onnxruntime alone, one sequence at a time: what the graph says without our engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

State = dict[str, NDArray[np.float32]]


class RawSession:
    """For the onnx-community dialect with float32 state."""

    def __init__(self, graph: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def empty_state(self) -> State:
        past = [value for value in self._session.get_inputs() if value.name.startswith("past")]
        sizes = {"batch_size": 1, "past_sequence_length": 0}
        return {value.name: np.zeros([sizes.get(size, size) for size in value.shape], np.float32) for value in past}

    def step(self, ids: Sequence[int], state: State) -> tuple[NDArray[np.float32], State]:
        """Logits [length, vocabulary] of all the ids, and the state after them."""
        past_length = next((value.shape[2] for name, value in state.items() if name.endswith(".key")), 0)
        tokens = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, past_length + len(ids)), np.int64),
            "num_logits_to_keep": np.array(len(ids), np.int64),
        }
        results = dict(zip(self._outputs, self._session.run(None, tokens | state), strict=True))
        presents = {name: name.replace("past_key_values", "present").replace("past", "present") for name in state}
        return results["logits"][0], {past: results[present] for past, present in presents.items()}

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """[length, vocabulary], in one run."""
        return self.step(ids, self.empty_state())[0]

    def greedy(self, prompt: Sequence[int], limit: int, eos: int) -> list[int]:
        """Up to `limit` tokens, `eos` included."""
        logits, state = self.step(prompt, self.empty_state())
        said = [int(logits[-1].argmax())]
        while len(said) < limit and said[-1] != eos:
            logits, state = self.step(said[-1:], state)
            said.append(int(logits[-1].argmax()))
        return said
