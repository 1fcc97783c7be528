"""Two replicas with the built-in model behind the real nginx."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fleet


@pytest.fixture(scope="session")
def _nginx_is_installed() -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")


@pytest.fixture(scope="session")
def shared(_nginx_is_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[fleet.Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with fleet.fleet(folder, "--threads", "1", "--max-seqs", "8") as running:
        yield running


@pytest.fixture
def folder(_nginx_is_installed: None, tmp_path: Path) -> Path:
    """Where a test may start an nginx of its own."""
    return tmp_path
