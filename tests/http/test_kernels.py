"""A server names its kernels, and a server without the native ones says how to get them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import server
from server.runtime.native.library import LIBRARY, native_name
from tests import models
from tests.scraping import Scrape
from tests.server_process import server_process

BANNER_END = "print(answer"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(models.build("q4", tmp_path_factory.mktemp("models") / "q4"))


@pytest.mark.skipif(not LIBRARY.exists(), reason="the kernels are not compiled")
def test_the_banner_the_metrics_and_the_fingerprint_name_the_kernels(model: str) -> None:
    fingerprints = set()
    for kernels, name in (("native", native_name()), ("onnxruntime", "onnxruntime")):
        with server_process("--model", model, "--kernels", kernels, "--log-format", "text") as process:
            banner = process.wait_for(BANNER_END)
            assert f", {name} kernels, " in banner
            assert "Note:" not in banner
            (labels,) = (dict(labels) for sample, labels in Scrape(process.url).samples if sample == "lfm_model_info")
            assert labels["kernels"] == name
            fingerprints.add(process.chat(max_tokens=1).json()["system_fingerprint"])
    assert len(fingerprints) == 2


@pytest.mark.skipif(not LIBRARY.exists(), reason="the kernels are not compiled")
@pytest.mark.parametrize(("kernels", "notes"), [("native", []), ("onnxruntime", ["q4f16 is slow on onnxruntime's"])])
def test_q4f16_is_called_slow_only_on_onnxruntimes_kernels(tmp_path: Path, kernels: str, notes: list[str]) -> None:
    folder = models.build("q4f16", tmp_path / "model")
    shutil.copy(folder / "onnx" / "model_q4f16.onnx", folder / "onnx" / "model_fp16.onnx")
    with server_process("--model", str(folder), "--kernels", kernels, "--log-format", "text") as process:
        banner = process.wait_for(BANNER_END)
    found = [line.removeprefix("Note: ") for line in banner.splitlines() if line.startswith("Note:")]
    assert [line[: line.find(" kernels;")] for line in found] == notes


def test_a_server_without_the_library_says_how_to_get_it(model: str, tmp_path: Path) -> None:
    """An installation without a C compiler."""
    package = Path(server.__file__).parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns(f"{LIBRARY.stem}.*", "__pycache__"))
    with server_process("--model", model, "--log-format", "text", before=f"cd {tmp_path}") as process:
        banner = process.wait_for(BANNER_END)
        assert ", onnxruntime kernels, " in banner
        (note,) = (line for line in banner.splitlines() if line.startswith("Note:"))
        assert "not the faster native ones: the library is not compiled. Install a C compiler" in note
        assert process.chat(max_tokens=1).status_code == 200
