"""The raw session: the graph in a loop, without scheduler, sampling or HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from server.runtime.graph import Precision, load
from server.runtime.machine.cpu import available_threads
from server.runtime.model_folder import open_model_folder
from server.runtime.native.choice import Kernels, choose_kernels
from server.runtime.prepared_copy.lookup import default_folder
from server.runtime.prepared_copy.placement import Placement, place
from server.runtime.session import ModelSession, SessionOptions
from server.runtime.session_pool import choose_graph
from server.runtime.slots import SlotPool
from server.settings import Settings

CHUNK = 512


class RawSession:
    """Up to `batch` sequences of `max_len` tokens, on the server's graph.

    kernels: kernels to use; None for the server's.
    """

    name = "raw session"

    def __init__(self, folder: Path, batch: int, max_len: int, kernels: Kernels | None = None) -> None:
        model = open_model_folder(folder)
        settings = Settings()  # from the same environment variables as the server's
        threads, prepared = settings.threads or available_threads(), settings.prepared_folder or default_folder()
        precision = Precision(settings.precision)
        choice = choose_kernels(kernels or Kernels(settings.kernels), precision)
        graph = choose_graph(load(model.graph, precision, choice.native), prepared, print)
        graph = place(graph, Placement(settings.weights), print)
        self._session = ModelSession(graph, SessionOptions(threads, CHUNK), model.head_dim)
        self._slots = SlotPool(self._session.contract.states, batch, max_len)
        # Random tokens: greedy rows end up repeating one phrase, and rows with equal tokens share their experts.
        self._tokens = np.random.default_rng(0).integers(100, 1000, (batch, max_len))

    def prefill(self, slot: int, length: int) -> float:
        """Prefill a prompt into an empty slot, and return the time in seconds."""
        start = time.perf_counter()
        self._slots.clear(slot)
        for first in range(0, length, CHUNK):
            chunk = self._tokens[slot : slot + 1, first : min(first + CHUNK, length)]
            self._session.run(self._slots, slot, chunk, np.array([first]))
        return time.perf_counter() - start

    def decode(self, batch: int, past: int, steps: int) -> float:
        """Decode `steps` tokens in each of `batch` slots, and return the time in seconds.

        past: number of tokens before them in each slot.
        """
        start = time.perf_counter()
        for length in range(past, past + steps):
            tokens = self._tokens[:batch, length : length + 1]
            self._session.run(self._slots, 0, tokens, np.full(batch, length)).argmax(axis=1)
        return time.perf_counter() - start
