"""A hub with one repository, and processes that download from it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests import models
from tests.unit.hub.hub_server import Hub, Repository, files_of, running_hub
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
REPO = "org/tiny-ONNX"


@dataclass(frozen=True)
class Outcome:
    """The folder or the message of an error, and the lines of progress in `said`."""

    folder: Path
    error: str | None
    said: list[str]


Download = Callable[..., Outcome]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A repository of two dtypes, each with its weights in a separate file, and some unrelated files."""
    folders = (models.build(kind, tmp_path_factory.mktemp(kind)) for kind in ("onnx-community", "q4"))
    fp32, q4 = map(files_of, folders)
    other = {"README.md": b"# A model", "onnx/model_q4f16.onnx_data": b"no graph", "model.safetensors": bytes(5000)}
    return fp32 | q4 | other


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with running_hub({REPO: Repository(dict(files))}) as hub:
        yield hub


@pytest.fixture(scope="session")
def forking() -> Iterator[IO[bytes]]:
    """The standard input of the process that forks the downloads."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [sys.executable, "-m", "tests.unit.hub.forking"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        yield process.stdin


@pytest.fixture
def download(hub: Hub, forking: IO[bytes], tmp_path: Path) -> Download:
    """Locate a model in a new process; the cache lasts for the test. Keywords are environment variables."""
    numbers = itertools.count()

    def run(model: str = REPO, revision: str | None = None, dtype: str = "auto", **variables: str) -> Outcome:
        result = tmp_path / f"outcome-{next(numbers)}"
        variables = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url} | variables
        request = {"model": [model, revision, dtype], "variables": variables, "result": str(result)}
        forking.write(json.dumps(request).encode() + b"\n")
        wait_until(result.exists)
        assert "Traceback" not in result.with_suffix(".stderr").read_text()
        folder, error, said = json.loads(result.read_text())
        return Outcome(Path(folder or "."), error, said)

    return run
