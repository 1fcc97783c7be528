"""The command line: valid arguments are parsed, and each invalid one gets a line."""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import SecretStr

from server import __version__
from server.arguments import UsageError, parse
from server.cli import main
from server.client_settings import Bench, Chat
from server.runtime.machine.cpu import kernel_features
from server.settings import Export, Settings
from tests.checkpoints import CONFIGS, random_tensors, write_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unset all option variables and change to a folder with only a template."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LFM_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", CONFIGS["moe"], random_tensors(CONFIGS["moe"]))


def refusals(*argv: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    return str(caught.value).splitlines()


# --- serve ---


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--host", "0.0.0.0"], "host", "0.0.0.0"),
        (["--port", "9000"], "port", 9000),
        (["--port=9000"], "port", 9000),
        (["--api-key", "key"], "api_key", SecretStr("key")),
        (["--model", "./my-model"], "model", "./my-model"),
        (["--revision", "v1"], "revision", "v1"),
        (["--dtype", "fp16"], "dtype", "fp16"),
        (["--precision", "exact"], "precision", "exact"),
        (["--served-model-name", "a"], "served_model_name", ("a",)),
        (["--served-model-name", "a", "--served-model-name", "b,c"], "served_model_name", ("a", "b,c")),
        (["--chat-template", "template.jinja"], "chat_template", Path("template.jinja")),
        (["--default-sampling", '{"temperature": 0.7}'], "default_sampling", {"temperature": 0.7}),
        (["--default-thinking-budget", "0"], "default_thinking_budget", 0),
        (["--thinking-budgets", '{"low": 9}'], "thinking_budgets", {"low": 9}),
        (["--max-model-len", "4096"], "max_model_len", 4096),
        (["--max-seqs", "4"], "max_seqs", 4),
        (["--max-waiting", "0"], "max_waiting", 0),
        (["--threads", "2"], "threads", 2),
    ],
)
def test_an_option_sets_its_setting_and_no_other(arguments: list[str], name: str, value: object) -> None:
    assert dict(parse(["serve", *arguments])) == dict(Settings()) | {name: value}


def test_serve_without_options_is_the_defaults() -> None:
    assert parse(["serve"]) == Settings()


@pytest.mark.parametrize(
    ("name", "variable", "flag", "value"),
    [
        ("port", "9000", "9001", 9001),
        ("model", "a", "b", "b"),
        ("served_model_name", "a,b", "c", ("c",)),
        ("default_sampling", '{"temperature": 1}', '{"top_k": 5}', {"top_k": 5}),
    ],
)
def test_an_option_overrides_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str, flag: str, value: object
) -> None:
    monkeypatch.setenv(f"LFM_{name.upper()}", variable)
    assert getattr(parse(["serve", f"--{name.replace('_', '-')}", flag]), name) == value


def test_an_option_overrides_an_invalid_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFM_PORT", "99999")
    assert parse(["serve", "--port", "9000"]) == Settings(port=9000)


def test_a_variable_applies_without_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFM_PORT", "9000")
    monkeypatch.setenv("LFM_MAX_SEQS", "")
    settings = parse(["serve", "--threads", "2"])
    assert isinstance(settings, Settings)
    assert (settings.port, settings.max_seqs, settings.threads) == (9000, 16, 2)


JSON_OBJECT = 'must be a JSON object such as {"temperature": 0.7}'


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("port", "99999", "--port: 99999 is invalid: must be at most 65535"),
        ("port", "-1", "--port: -1 is invalid: must be at least 0"),
        ("port", "http", "--port: http is invalid: must be a whole number"),
        ("port", "80\n81", r"--port: '80\n81' is invalid: must be a whole number"),
        ("chat_template", "absent", "--chat-template: absent is invalid: no such file"),
        ("max_model_len", "1", "--max-model-len: 1 is invalid: must be at least 2"),
        ("max_seqs", "0", "--max-seqs: 0 is invalid: must be at least 1"),
        ("max_waiting", "-1", "--max-waiting: -1 is invalid: must be at least 0"),
        ("threads", "0.5", "--threads: 0.5 is invalid: must be a whole number"),
        ("default_sampling", "0.7", f"--default-sampling: 0.7 is invalid: {JSON_OBJECT}"),
        ("default_sampling", "{", f"--default-sampling: {{ is invalid: {JSON_OBJECT}"),
        ("default_sampling", '{"top_p": -1}', "--default-sampling: top_p -1 is invalid: must be at least 0"),
        ("default_sampling", '{"min_p": 1.5}', "--default-sampling: min_p 1.5 is invalid: must be at most 1"),
        (
            "default_sampling",
            '{"top_k": 1.5}',
            "--default-sampling: top_k 1.5 is invalid: must be a whole number",
        ),
        ("default_sampling", '{"min_p": "a"}', "--default-sampling: min_p a is invalid: must be a number"),
        (
            "default_sampling",
            '{"temp": 1}',
            "--default-sampling: temp is invalid: must be one of temperature, top_k, top_p, min_p, repetition_penalty, "
            "frequency_penalty, presence_penalty",
        ),
        (
            "thinking_budgets",
            "9",
            '--thinking-budgets: 9 is invalid: must be a JSON object such as {"low": 256}',
        ),
        ("thinking_budgets", '{"low": -1}', "--thinking-budgets: low -1 is invalid: must be at least 0"),
        (
            "thinking_budgets",
            '{"lo": 1}',
            "--thinking-budgets: lo is invalid: must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
    ],
)
def test_an_invalid_value_gets_a_line_with_its_option_the_reason_and_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    assert refusals("serve", f"--{name.replace('_', '-')}", value) == [line]
    monkeypatch.setenv(f"LFM_{name.upper()}", value)
    assert refusals("serve") == [f"{line} (LFM_{name.upper()})"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a,", "must not be empty"),
        ("[1]", "1 is invalid: must be text"),
        ("[a", "[a is invalid: must be names separated by commas, or a JSON list of names"),
    ],
)
def test_a_variable_that_holds_no_names_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    monkeypatch.setenv("LFM_SERVED_MODEL_NAME", value)
    assert refusals("serve") == [f"--served-model-name: {reason} (LFM_SERVED_MODEL_NAME)"]


@pytest.mark.parametrize("flag", ["--host", "--api-key", "--model", "--revision", "--dtype", "--served-model-name"])
def test_an_empty_option_is_refused(flag: str) -> None:
    assert refusals("serve", flag, "") == [f"{flag}: must not be empty"]


def test_each_fault_gets_its_own_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LFM_THREADS", "0")
    assert main(["serve", "--port", "99999", "--default-sampling", '{"top_k": -2, "min_p": 2}']) == 2
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "lfm-serve: --default-sampling: min_p 2 is invalid: must be at most 1",
        "lfm-serve: --default-sampling: top_k -2 is invalid: must be at least -1",
        "lfm-serve: --port: 99999 is invalid: must be at most 65535",
        "lfm-serve: --threads: 0 is invalid: must be at least 1 (LFM_THREADS)",
    ]


# --- invalid arguments ---


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


# --- chat and bench ---


def test_chat_passes_the_options_of_its_server_on_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORT": "1",
        "LOG_LEVEL": "error",
        "MAX_SEQS": "3",
        "THINKING_BUDGETS": '{"high": null}',
    }.items():
        monkeypatch.setenv(f"LFM_{name}", value)
    options = ["--model", "a", "--api-key", "key", "--served-model-name", "b", "--no-prepare"]
    chat = parse(["chat", *options, "--itl-target", "0.5", "--responses-file", "file"])
    assert isinstance(chat, Chat)
    variables = chat.server_variables()
    assert {name: variables.pop(name) for name in ("LFM_SERVED_MODEL_NAME", "LFM_THINKING_BUDGETS")} == {
        "LFM_SERVED_MODEL_NAME": json.dumps(["b"]),
        "LFM_THINKING_BUDGETS": json.dumps({"high": None}),
    }
    assert variables == {
        "LFM_API_KEY": "key",
        "LFM_ITL_TARGET": "0.5",
        "LFM_MAX_SEQS": "3",
        "LFM_MODEL": "a",
        "LFM_NO_PREPARE": "true",
        "LFM_RESPONSES_FILE": "file",
    }


def test_an_option_of_its_own_server_overrides_the_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFM_URL", "http://a:1")
    monkeypatch.setenv("LFM_MODEL", "b")
    with_url, with_model = parse(["chat", "--api-key", "key"]), parse(["chat", "--model", "c"])
    assert isinstance(with_url, Chat)
    assert isinstance(with_model, Chat)
    assert (with_url.url, with_model.url, with_model.model) == ("http://a:1/v1", None, "c")


NO_URL = "is invalid: must be a URL such as http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["chat", "--port", "1"], ["unknown option --port"]),
        (["chat", "--url", "a", "--model", "b"], [f"--url: a {NO_URL}"]),
        (
            ["chat", "--url", "http://a", "--model", "b", "--max-seqs", "1"],
            ["--max-seqs cannot be combined with --url", "--model cannot be combined with --url"],
        ),
        (["chat", "--url", "http://a:99999"], [f"--url: http://a:99999 {NO_URL}"]),
        (["bench"], ["--url is required"]),
        (["bench", "--url", "http://a", "--url", "b=ftp://c"], [f"--url: b=ftp://c {NO_URL}"]),
        (
            ["bench", "--url", "http://a/b", "--url", "http://a/c"],
            ["--url: ['http://a/b', 'http://a/c'] is invalid: two servers have the same name; name them with NAME=URL"],
        ),
        (
            ["bench", "--url", "http://a", "--only", "client"],
            ["--only: client is invalid: must be 'clients', 'pace' or 'prefixes'"],
        ),
        (["bench", "--url", "http://a", "--rounds", "0"], ["--rounds: 0 is invalid: must be at least 1"]),
    ],
)
def test_each_invalid_argument_of_chat_and_bench_gets_one_line(arguments: list[str], lines: list[str]) -> None:
    assert refusals(*arguments) == lines


def test_the_urls_of_bench_may_have_names_and_get_a_path() -> None:
    bench = parse(["bench", "--url", "http://a:1", "--url", "b=https://c/d/v1/", "--only", "pace", "--only", "clients"])
    assert isinstance(bench, Bench)
    assert [(url.name, url.url) for url in bench.url] == [("a:1", "http://a:1/v1"), ("b", "https://c/d/v1")]
    assert bench.only == ("pace", "clients")


# --- help and version ---


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


# --- export ---


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
