"""The choice of a model's kernels: what the machine can run, what is configured, and messages if they differ."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.cli import main
from server.errors import KernelsError, StartupError
from server.loading.load import load_model
from server.runtime import session_pool
from server.runtime.graph import Precision
from server.runtime.native import choice, library
from server.runtime.native.choice import Kernels, choose_kernels
from server.runtime.native.library import LIBRARY, load_library
from server.settings import Settings
from tests import models


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test replace what `load_library` finds."""
    yield monkeypatch
    load_library.cache_clear()


def compiled() -> Path:
    if not LIBRARY.exists():
        pytest.skip("the kernels are not compiled")
    return LIBRARY


def missing(*_: object) -> None:
    raise KernelsError("the library is not compiled: install a C compiler")


def test_onnxruntime_is_taken_without_a_look_at_the_library(fake: pytest.MonkeyPatch) -> None:
    fake.setattr(choice, "load_library", missing)
    assert choose_kernels(Kernels.ONNXRUNTIME, Precision.FAST) == choice.KernelChoice(False)
    assert choose_kernels(Kernels.AUTO, Precision.EXACT) == choice.KernelChoice(False)


def test_auto_says_why_the_native_kernels_are_not_used(fake: pytest.MonkeyPatch) -> None:
    fake.setattr(choice, "load_library", missing)
    assert "install a C compiler" in choose_kernels(Kernels.AUTO, Precision.FAST).reason


def test_native_is_refused_without_a_library(fake: pytest.MonkeyPatch) -> None:
    fake.setattr(choice, "load_library", missing)
    with pytest.raises(StartupError, match="install a C compiler"):
        choose_kernels(Kernels.NATIVE, Precision.FAST)


def test_native_and_exact_exclude_each_other() -> None:
    with pytest.raises(StartupError, match="--precision exact"):
        choose_kernels(Kernels.NATIVE, Precision.EXACT)


def test_a_cpu_with_nothing_but_plain_c_gets_native_kernels_only_on_request(fake: pytest.MonkeyPatch) -> None:
    compiled()
    portable = replace(load_library(), isas={"portable": 1})
    fake.setattr(choice, "load_library", lambda: portable)
    assert not choose_kernels(Kernels.AUTO, Precision.FAST).native
    assert choose_kernels(Kernels.NATIVE, Precision.FAST).native


def test_native_is_refused_for_a_large_model_without_a_copy(fake: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled()
    fake.setattr(session_pool, "SMALL", 0)
    model = str(models.build("q4", tmp_path / "model"))
    settings = Settings(model=model, kernels="native", no_prepare=True, prepared_folder=tmp_path / "copies", threads=1)
    with pytest.raises(StartupError, match="needs a prepared copy"):
        load_model(settings, lambda _: None)


def test_a_large_model_that_may_not_be_prepared_runs_on_onnxruntimes_kernels(
    fake: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled()
    fake.setattr(session_pool, "SMALL", 0)
    model = str(models.build("q4", tmp_path / "model"))
    settings = Settings(model=model, no_prepare=True, prepared_folder=tmp_path / "copies", threads=1)
    kernels = load_model(settings, lambda _: None).kernels
    assert kernels == choice.KernelsInUse("onnxruntime", "this model is not prepared, see the log")


def test_a_missing_library_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(KernelsError, match="Install a C compiler"):
        load_library(tmp_path / "lfm_kernels.so")


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_library_is_refused_before_it_is_loaded(tmp_path: Path, damage: str) -> None:
    for path in (compiled(), LIBRARY.with_suffix(".sha256")):
        shutil.copy(path, tmp_path)
    copy = tmp_path / LIBRARY.name
    data = bytearray(copy.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(KernelsError, match="damaged"):
        load_library(copy)


def test_a_library_of_another_version_is_refused(fake: pytest.MonkeyPatch) -> None:
    compiled()
    load_library.cache_clear()
    fake.setattr(library, "VERSION", library.VERSION + 1)
    with pytest.raises(KernelsError, match="version"):
        load_library()


def test_the_version_is_that_of_the_header() -> None:
    header = Path(__file__).parents[2] / "kernels" / "lfm_kernels.h"
    assert f"#define LFM_VERSION {library.VERSION} " in header.read_text()


def test_version_names_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    compiled()
    assert f"kernels: native {load_library().isa}" in capsys.readouterr().out
