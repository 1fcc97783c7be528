"""Engines on tiny models, with checks of their state before and after every step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from server.engine import invariants
from server.engine.config import EngineConfig
from server.engine.engine import Engine
from server.engine.engine_state import EngineState
from server.engine.observations import StepObservation
from server.loading.model_choice import BUILT_IN
from server.runtime.graph import Precision, load
from server.runtime.model_folder import open_model_folder
from server.runtime.native.library import load_library
from server.runtime.native.packing import pack_in_memory
from server.runtime.session import ModelSession, SessionOptions
from tests import models

StartEngine = Callable[..., AbstractAsyncContextManager[Engine]]
OpenSession = Callable[[str], ModelSession]


@pytest.fixture(scope="session")
def open_session(tmp_path_factory: pytest.TempPathFactory) -> OpenSession:
    """Open a new session on the tiny model of a kind, or on the built-in model.

    The kind "native" is "q4" on the native kernels.
    """
    folders = {"built-in": BUILT_IN}

    def open_(kind: str, max_tokens: int = 64) -> ModelSession:
        if kind not in folders:
            recipe = "q4" if kind == "native" else kind
            folders[kind] = models.build(recipe, tmp_path_factory.mktemp("model") / kind)
        folder = open_model_folder(folders[kind])
        if kind == "native":
            graph = pack_in_memory(load(folder.graph, Precision.FAST, native=True), load_library())
        else:
            graph = load(folder.graph, Precision.EXACT)
        return ModelSession(graph, SessionOptions(threads=1, max_tokens=max_tokens), folder.head_dim)

    return open_


@pytest.fixture
def start_engine(open_session: OpenSession) -> StartEngine:
    """Start an engine: `async with start_engine(kind, **config) as engine`."""

    @asynccontextmanager
    async def start(
        kind: str, sessions: int = 1, observe: Callable[[StepObservation], None] = lambda _: None, **config: Any
    ) -> AsyncIterator[Engine]:
        defaults = {"max_seqs": 4, "max_waiting": 64, "max_model_len": 256, "prefill_chunk": 16}
        defaults |= {"slot_tokens": 1024, "cache_bytes": 1 << 24, "itl_target": 1.0}
        engine = Engine([open_session(kind) for _ in range(sessions)], EngineConfig(**(defaults | config)), observe)
        engine.warm_up()
        engine.start()
        try:
            yield engine
        finally:
            await engine.stop()

    return start


@pytest.fixture(autouse=True)
def _invariants_hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check the engine's state each time it settles, before and after every step."""
    broken: list[AssertionError] = []
    settle = EngineState.settle

    def settle_and_check(state: EngineState) -> None:
        settle(state)
        try:
            invariants.check(state)
        except AssertionError as error:
            broken.append(error)

    monkeypatch.setattr(EngineState, "settle", settle_and_check)
    yield
    assert not broken, broken[0]
