"""The servers of the clients' tests: a scripted model with a key, a thinking one, and random weights."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from server.settings import Settings
from tests import models
from tests.clients.story import KEY, MODEL, SCRIPTS
from tests.scripted import scripted, thinker
from tests.serving import Server, serving

# Read when the libraries are imported: they reach for nothing but our server.
os.environ |= {
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The scripted model, behind a key."""
    folder = scripted(tmp_path_factory.mktemp("models") / MODEL, SCRIPTS)
    with serving(Settings(model=str(folder), api_key=KEY, threads=1)) as running:
        yield running


@pytest.fixture(scope="session")
def random_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Random weights: whatever is well-formed in its answers, the constraint has made so."""
    folder = models.build("onnx-community", tmp_path_factory.mktemp("models") / "random")
    with serving(Settings(model=str(folder), threads=1)) as running:
        yield running


@pytest.fixture(scope="session")
def thinking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The scripted model, which thinks before each answer."""
    folder = thinker(tmp_path_factory.mktemp("thinkers") / MODEL, SCRIPTS)
    with serving(Settings(model=str(folder), threads=1)) as running:
        yield running
