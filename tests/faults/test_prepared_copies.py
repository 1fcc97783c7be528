"""A server replaces a damaged or outdated prepared copy, or runs without one."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from server.prepare import prepare
from server.runtime.graph import Precision, load
from server.runtime.model_folder import open_model_folder
from server.runtime.prepared_copy import lookup
from tests.http.conftest import StartServer

BODY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def copy(own_model: Path, tmp_path: Path) -> Path:
    """The model's prepared copy."""
    prepare(open_model_folder(own_model), Precision.FAST, 1, tmp_path / "prepared", print)
    return next(path for path in (tmp_path / "prepared").iterdir() if path.is_dir())


def damage(model: Path, copy: Path) -> None:
    os.truncate(copy / "weights", 1000)


def change_the_model(model: Path, copy: Path) -> None:
    os.utime(model / "onnx" / "model.onnx_data", (0, 0))


@pytest.mark.parametrize("fault", [damage, change_the_model])
def test_a_bad_copy_is_replaced_at_the_start(
    fault: Callable[[Path, Path], None],
    own_model: Path,
    copy: Path,
    start_server: StartServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault(own_model, copy)
    with caplog.at_level(logging.INFO):
        server = start_server(model=str(own_model), prepared_folder=copy.parent, threads=1)
    assert "is damaged or out of date and is made again" in caplog.text
    assert lookup.find(load(open_model_folder(own_model).graph, Precision.FAST), copy.parent, print) is not None
    assert server.chat(**BODY).json()["usage"]["completion_tokens"] == 8


def test_a_bad_copy_that_cannot_be_replaced_is_not_used(
    own_model: Path,
    copy: Path,
    start_server: StartServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(own_model, copy)
    full = shutil.disk_usage(copy)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with caplog.at_level(logging.INFO):
        server = start_server(model=str(own_model), prepared_folder=copy.parent, threads=1)
    assert "There is not enough space" in caplog.text
    assert server.chat(**BODY).json()["usage"]["completion_tokens"] == 8


def test_serving_an_unprepared_model_makes_no_copy(own_model: Path, tmp_path: Path, start_server: StartServer) -> None:
    start_server(model=str(own_model), prepared_folder=tmp_path / "prepared", threads=1)
    assert not (tmp_path / "prepared").exists()
