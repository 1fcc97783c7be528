"""Servers on the built-in model, on random weights and on scripts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.runtime.session import ModelSession
from server.settings import Settings
from tests import models
from tests.serving import Server, StartServer, serving


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    for name in [name for name in os.environ if name.startswith("LFM_")]:
        del os.environ[name]


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Start a server for one test: `start_server(model=folder, max_seqs=2)`; options as in Settings."""
    with contextlib.ExitStack() as running:
        yield lambda **options: running.enter_context(serving(Settings(**options)))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of a certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    file, key = folder / "certificate.pem", folder / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", file],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("openssl cannot make a certificate here")
    return file, key


@pytest.fixture(scope="session")
def demo() -> Iterator[Server]:
    """A server on the built-in model, with 32 slots."""
    with serving(Settings(max_seqs=32, max_waiting=64, threads=2)) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights, which hardly ever ends an answer by itself."""
    return models.build("onnx-community", tmp_path_factory.mktemp("models") / "tiny-model")


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> Iterator[Server]:
    """A server on random weights, with four slots."""
    with serving(Settings(model=str(tiny_model), max_seqs=4, max_waiting=8, threads=1)) as server:
        yield server


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Block the prefill of prompts until the event is set."""
    go_on = threading.Event()
    run = ModelSession.run

    def waiting(self: ModelSession, slots: Any, first: int, tokens: Any, *rest: Any) -> np.ndarray[Any, Any]:
        if tokens.shape[1] > 1 and tokens.any():  # the warm-up's tokens are zeros
            go_on.wait(60)
        return run(self, slots, first, tokens, *rest)

    monkeypatch.setattr(ModelSession, "run", waiting)
    yield go_on
    go_on.set()
