"""What a server cannot start with ends it with one line that says what to change."""

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
def test_a_file_of_the_model_that_was_cut_short_is_named(tiny_model: Path, tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert Path(file).stem in last_line(start("--model", str(folder)))


def test_state_that_no_memory_is_there_for_is_refused_with_what_to_lower(tiny_model: Path) -> None:
    said = last_line(start("--model", str(tiny_model), "--max-seqs", "1000000000"))
    assert "--max-seqs" in said
    assert "memory" in said


def test_a_disk_that_fills_while_a_model_is_prepared(tiny_model: Path, tmp_path: Path) -> None:
    """Writing fails beyond so many bytes of a file, as it does where there is no space."""
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
    said = last_line(result)
    assert re.search(r"cannot prepare model\.onnx in prepared, where \S+ GB are free: .*Failed to write", said)
    assert [path.suffix for path in (tmp_path / "prepared").iterdir()] == [".lock"]


def test_a_config_that_contradicts_the_graph(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    models.leave_vocabulary_open(folder / "onnx" / "model.onnx")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
    said = last_line(start("--model", str(folder)))
    assert said == "lfm-serve: model.onnx has logits for 1024 tokens, config.json says 1000."


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text("nothing")
    assert last_line(start("--ssl-certfile", str(certificate))).startswith("lfm-serve: --ssl-certfile, --ssl-keyfile: ")


def test_keys_that_cannot_be_read_are_refused_before_anything_else(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[a]")
    assert last_line(start("--api-keys-file", str(keys))) == (
        f"lfm-serve: --api-keys-file: {keys}: a.key: Field required."
    )
