"""A server that cannot start exits with one line that says what to change."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models

ROOT = Path(__file__).parents[2]


def start(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--log-format", "text", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize("file", ["onnx/model.onnx", "onnx/model.onnx_data", "tokenizer.json", "config.json"])
def test_a_truncated_model_file_is_named(tiny_model: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert Path(file).stem in last_line(start("--model", str(folder)))


def test_a_tokenizer_on_which_its_library_panics_is_named(tiny_model: Path, tmp_path: Path) -> None:
    path = shutil.copytree(tiny_model, tmp_path / "model") / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["continuing_subword_prefix"] = "#" * 1000  # longer than any token
    path.write_text(json.dumps(content))
    assert f"The tokenizer in {path.parent} cannot be read" in last_line(start("--model", str(path.parent)))


def test_native_kernels_for_a_model_without_quantized_layers(tiny_model: Path) -> None:
    line = last_line(start("--model", str(tiny_model), "--kernels", "native"))
    assert "4- or 8-bit layers" in line or "is not compiled" in line


def test_too_little_memory_for_state_names_the_option_to_lower(tiny_model: Path) -> None:
    message = last_line(start("--model", str(tiny_model), "--max-seqs", "1000000000"))
    assert "--max-seqs" in message
    assert "memory" in message


def test_a_disk_that_fills_during_prepare(tiny_model: Path, tmp_path: Path) -> None:
    """A limit on the size of files makes writing fail as a full disk would."""
    command = [sys.executable, "-m", "server", "prepare", "--model", str(tiny_model), "--prepared-folder", "prepared"]
    limit = (1 << 16, 1 << 16)
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    message = last_line(result)
    assert re.search(r"cannot prepare model\.onnx in prepared, with \S+ GB free: .*Failed to write", message)
    assert [path.suffix for path in (tmp_path / "prepared").iterdir()] == [".lock"]


def test_a_config_that_contradicts_the_graph(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    models.leave_vocabulary_open(folder / "onnx" / "model.onnx")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
    message = last_line(start("--model", str(folder)))
    assert message == "lfm-serve: model.onnx has logits for 1024 tokens, but vocab_size in config.json is 1000."


def test_an_invalid_certificate_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text("nothing")
    assert last_line(start("--ssl-certfile", str(certificate))).startswith("lfm-serve: --ssl-certfile, --ssl-keyfile: ")


def test_invalid_api_keys_are_refused_before_loading(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[a]")
    assert last_line(start("--api-keys-file", str(keys))) == (
        f"lfm-serve: --api-keys-file: {keys}: a.key: Field required."
    )
