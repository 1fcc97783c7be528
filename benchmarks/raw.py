"""The raw session: the served graph in a bare loop, its state bound in place. No scheduler, no sampling, no HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from server.runtime.cpu import available_threads
from server.runtime.graph import Precision, load
from server.runtime.model_folder import open_model_folder
from server.runtime.pool import choose_graph
from server.runtime.prepared import default_folder
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.slots import SlotPool
from server.settings import Settings

CHUNK = 512


class RawSession:
    """Up to `batch` sequences of `max_len` tokens. Where the model is prepared it shares the server's weights."""

    def __init__(self, folder: Path, batch: int, max_len: int) -> None:
        model = open_model_folder(folder)
        settings = Settings()  # of the environment, which the server has as well
        threads, prepared = settings.threads or available_threads(), settings.prepared_folder or default_folder()
        graph = choose_graph(load(model.graph, Precision(settings.precision)), prepared, print)
        self._session = ModelSession(graph, SessionOptions(threads, CHUNK), model.head_dim)
        self._slots = SlotPool(self._session.contract.states, batch, max_len)
        # Tokens at random, not the likeliest: greedy rows fall into one rut, and rows that agree share their experts.
        self._tokens = np.random.default_rng(0).integers(100, 1000, (batch, max_len))

    def prefill(self, slot: int, length: int) -> float:
        """Read a prompt into an empty slot; seconds."""
        start = time.perf_counter()
        self._slots.clear(slot)
        for first in range(0, length, CHUNK):
            chunk = self._tokens[slot : slot + 1, first : min(first + CHUNK, length)]
            self._session.run(self._slots, slot, chunk, np.array([first]))
        return time.perf_counter() - start

    def decode(self, batch: int, past: int, steps: int) -> float:
        """Steps of the first `batch` slots, each with `past` tokens; seconds."""
        start = time.perf_counter()
        for length in range(past, past + steps):
            tokens = self._tokens[:batch, length : length + 1]
            self._session.run(self._slots, 0, tokens, np.full(batch, length)).argmax(axis=1)
        return time.perf_counter() - start
