"""Servers with a prefix cache on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.engine.observations import StepKind
from server.settings import Settings
from tests import models
from tests.http.conftest import _no_settings_from_outside
from tests.serving import Server, serving

__all__ = ["_no_settings_from_outside"]

KINDS = ("onnx-community", "attention-only")
"""A hybrid of convolutions and attention, and a model without convolutions."""

StartServer = Callable[..., contextlib.AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of the tiny model of a kind; it is made once."""
    folders: dict[str, Path] = {}

    def build_(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = models.build(kind, tmp_path_factory.mktemp("models") / kind)
        return folders[kind]

    return build_


@pytest.fixture
def start(build: Callable[[str], Path], tmp_path: Path) -> StartServer:
    """Run a server during a block: `with start(kind) as server`; its cache folder is `tmp_path / "cache"`.

    The cost model believes that prefill takes a second per token, so that reading is faster on any machine, or
    `prefill_seconds`.
    """

    @contextlib.contextmanager
    def start_(kind: str = KINDS[0], prefill_seconds: float = 1, **options: object) -> Iterator[Server]:
        settings = {
            "model": str(build(kind)),
            "threads": 1,
            "max_seqs": 4,
            "served_model_name": ("any",),
            "cache_folder": tmp_path / "cache",
        }
        with serving(Settings(**(settings | options))) as server:
            for tokens in (1, 64) * 50:
                server.engine.state.costs.observe(StepKind.PREFILL, 1, tokens, tokens * prefill_seconds)
            yield server

    return start_
