"""`serve`: options and their variables are parsed, and each invalid value gets a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from server.arguments import parse
from server.cli import main
from server.settings import Settings
from tests.unit.command_line.refusals import refusals


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
