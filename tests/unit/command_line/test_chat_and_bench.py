"""`chat` and `bench`: their options, and the options that `chat` passes on to its server."""

from __future__ import annotations

import json

import pytest

from server.arguments import parse
from server.client_settings import Bench, Chat
from tests.unit.command_line.refusals import refusals


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
            [
                "--url: ['http://a/b', 'http://a/c'] is invalid: two servers have the same name; give each its own "
                "with NAME=URL"
            ],
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
