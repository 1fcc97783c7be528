"""A hub with one repository, and processes that download from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import models
from tests.unit.hub.hub_server import Hub, Repository, files_of, running_hub

ROOT = Path(__file__).parents[3]
REPO = "org/tiny-ONNX"
# huggingface_hub reads its environment when it is imported: each download gets a process of its own.
PROGRAM = """
import json, sys
from server.errors import HubError
from server.hub import download
from server.hub.repository import locate
download.RETRY_DELAYS = (0, 0)
said = []
try:
    folder, error = str(locate(*json.loads(sys.argv[1]), said.append)), None
except HubError as problem:
    folder, error = None, str(problem)
print(json.dumps([folder, error, said]))
"""


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


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    """Locate a model in a new process; the cache lasts for the test. Keywords are environment variables."""

    def run(model: str = REPO, revision: str | None = None, dtype: str = "auto", **variables: str) -> Outcome:
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        env |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url} | variables
        command = [sys.executable, "-c", PROGRAM, json.dumps([model, revision, dtype])]
        ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        folder, error, said = json.loads(ended.stdout)
        return Outcome(Path(folder or "."), error, said)

    return run
