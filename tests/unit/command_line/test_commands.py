"""Every command: unknown and missing arguments, the help and the version."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from server import __version__
from server.cli import main
from server.runtime.machine.cpu import kernel_features
from server.settings import Settings
from tests.unit.command_line.refusals import refusals

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["serve", "--prot", "9000"], ["unknown option --prot; did you mean --port?"]),
        (["serve", "--max-seq=4"], ["unknown option --max-seq; did you mean --max-seqs?"]),
        (["serve", "--quiet", "-x"], ["unknown option --quiet", "unknown option -x"]),
        (["serve", "my-model"], ["unexpected argument: my-model"]),
        (["serve", "--port"], ["--port: expected one argument"]),
        (["export", "--dtpye", "q4", "a", "b"], ["unknown option --dtpye; did you mean --dtype?"]),
        (["export", "a", "b"], ["--dtype is required"]),
        (["export", "a", "--dtype", "q4"], ["the following arguments are required: OUT"]),
        (["export", "a", "b", "--dtype", "q8"], ["--dtype: q8 is invalid: must be 'fp32' or 'q4'"]),
        (
            ["export", "--random", "lfm2-8b-a1b", "b", "--dtype", "q4", "--seed", "-1"],
            ["--seed: -1 is invalid: must be at least 0"],
        ),
        (
            ["export", "a", "b", "--dtype", "q4", "--tokenizer", "c", "--seed", "1"],
            ["--seed requires --random", "--tokenizer requires --random"],
        ),
        ([], ["expected a command (serve, chat, bench, prepare, export or cache); see lfm-serve --help"]),
        (
            ["sreve"],
            ["expected a command (serve, chat, bench, prepare, export or cache), not sreve; see lfm-serve --help"],
        ),
        (
            ["--port", "1"],
            ["expected a command (serve, chat, bench, prepare, export or cache), not --port; see lfm-serve --help"],
        ),
    ],
)
def test_each_invalid_argument_gets_one_line(arguments: list[str], lines: list[str]) -> None:
    assert refusals(*arguments) == lines


def test_the_version_names_onnxruntime_and_the_cpu_features_without_loading_onnxruntime() -> None:
    program = (
        "import sys\nfrom server.cli import main\ntry:\n    main(['--version'])\n"
        "finally:\n    assert 'onnxruntime' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    ours, machine = result.stdout.splitlines()
    assert ours.startswith(f"lfm-serve {__version__}, kernels: ")
    assert machine.startswith(f"onnxruntime {version('onnxruntime')}, Python {platform.python_version()}, ")
    assert machine.endswith(f" {platform.machine()}: {', '.join(kernel_features()) or 'no known features'}")


def test_the_help_of_serve_has_a_line_for_each_option_with_its_default_and_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    lines = re.findall(
        r"^  --([a-z-]+)(?: [A-Z]+)?\s+\S.* \(default: (.+)\) \[LFM_([A-Z_]+)\]$", capsys.readouterr().out, re.M
    )
    assert [flag.replace("-", "_") for flag, _, _ in lines] == list(Settings.model_fields)
    assert [variable.lower() for _, _, variable in lines] == list(Settings.model_fields)
    assert {flag: default for flag, default, _ in lines}["port"] == "8000"


def test_the_help_of_export_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    listed = re.findall(r"^  (--[a-z]+|[A-Z]+) ", capsys.readouterr().out, re.M)
    assert listed == ["CHECKPOINT", "OUT", "--random", "--dtype", "--tokenizer", "--seed"]


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {"fastapi", "numpy", "onnx", "onnxruntime", "tokenizers", "transformers", "uvicorn"}
    code = f"import sys, server.cli; print(sorted({heavy} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
