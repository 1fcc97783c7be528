"""`export`: its options, its progress and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from server.arguments import parse
from server.cli import main
from server.settings import Export
from tests.checkpoints import CONFIGS, random_tensors, write_checkpoint

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", CONFIGS["moe"], random_tensors(CONFIGS["moe"]))


def test_an_export_of_random_weights_is_understood() -> None:
    asked = parse(["export", "--random", "lfm2-8b-a1b", "out", "--dtype", "q4", "--tokenizer", "folder", "--seed", "3"])
    assert asked == Export(
        source="lfm2-8b-a1b", out=Path("out"), random=True, dtype="q4", tokenizer=Path("folder"), seed=3
    )


def test_export_ignores_the_variables_of_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFM_DTYPE", "fp16")
    monkeypatch.setenv("LFM_PORT", "http")
    assert parse(["export", "a", "b", "--dtype", "q4"]) == Export(source="a", out=Path("b"), dtype="q4")


@pytest.mark.parametrize(("dtype", "file"), [("fp32", "model.onnx"), ("q4", "model_q4.onnx")])
def test_an_export_prints_its_progress_and_the_next_command(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str, file: str
) -> None:
    out = tmp_path / "my model"
    assert main(["export", str(checkpoint), str(out), "--dtype", dtype]) == 0
    assert (out / "onnx" / file).is_file()
    told = capsys.readouterr()
    assert told.out == ""
    assert "layer 1 of 4" in told.err.splitlines()
    assert told.err.splitlines()[-1].endswith(f"lfm-serve serve --model '{out}'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "out"], "absent is not a checkpoint folder: it has no config.json."),
        (["checkpoint", "checkpoint"], "checkpoint exists and is not an empty folder. Choose a new folder."),
        (["checkpoint", "template.jinja/out"], "[Errno 20] Not a directory: "),
        (["--random", "lfm3", "out"], "Unknown shape 'lfm3'. Known shapes: lfm2-8b-a1b."),
        (["--random", "lfm2-8b-a1b", "out", "--tokenizer", "absent"], "absent lacks tokenizer.json."),
    ],
)
def test_an_export_that_fails_says_why_in_one_line(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["export", *arguments, "--dtype", "fp32"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lfm-serve: {message}")
    assert not Path("out").exists()


def test_ctrl_c_ends_an_export_without_a_traceback_and_leaves_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "server",
        "export",
        "--random",
        "lfm2-8b-a1b",
        str(tmp_path / "out"),
        "--dtype",
        "q4",
    ]
    # A suite that runs in the background ignores SIGINT, and its children would too.
    heed_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "layer 1 of 24\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert all(line.startswith("layer ") for line in told.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["template.jinja"]
