"""Options can be set by argument or variable, and invalid values are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from server.settings import Settings

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8000,
    "api_key": None,
    "api_keys_file": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "cors_origin": (),
    "forwarded_allow_ips": "127.0.0.1",
    "model": None,
    "revision": None,
    "dtype": "auto",
    "precision": "fast",
    "kernels": "auto",
    "no_prepare": False,
    "weights": "mapped",
    "prepared_folder": None,
    "served_model_name": (),
    "chat_template": None,
    "default_sampling": {},
    "tool_constraints": "always",
    "default_thinking_budget": None,
    "thinking_budgets": {},
    "max_model_len": None,
    "max_seqs": 16,
    "max_waiting": 64,
    "max_waiting_tokens": 262144,
    "max_queue_time": 300,
    "request_timeout": 1800,
    "max_output_tokens": None,
    "max_n": 8,
    "max_body": 2097152,
    "max_connections": 4096,
    "read_timeout": 60,
    "client_idle_timeout": 60,
    "keep_alive": 75,
    "sse_ping": 15,
    "step_timeout": 120,
    "drain_delay": 0,
    "drain_timeout": 30,
    "responses_memory": 64,
    "responses_file": None,
    "responses_ttl": 2592000,
    "log_format": "auto",
    "log_level": "info",
    "log_prompts": False,
    "metrics_compat": "vllm",
    "no_playground": False,
    "kv_events_endpoint": None,
    "kv_events_replay_endpoint": None,
    "kv_events_topic": None,
    "itl_target": 1.0,
    "cache_memory": None,
    "cache_folder": None,
    "cache_disk": 10,
    "cache_disk_dtype": "state",
    "threads": None,
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unset all option variables and change to a folder with only a template."""
    for name in DEFAULTS:
        monkeypatch.delenv(f"LFM_{name.upper()}", raising=False)
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    monkeypatch.chdir(tmp_path)


def test_every_option_has_the_default_that_the_readme_states() -> None:
    assert dict(Settings()) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "0", 0),
        ("port", "65535", 65535),
        ("api_key", "key", SecretStr("key")),
        ("model", "onnx-community/LFM2-8B-A1B-ONNX", "onnx-community/LFM2-8B-A1B-ONNX"),
        ("revision", "v1", "v1"),
        ("dtype", "q4f16", "q4f16"),
        ("precision", "exact", "exact"),
        ("kernels", "native", "native"),
        ("no_prepare", "1", True),
        ("prepared_folder", "/models/prepared", Path("/models/prepared")),
        ("served_model_name", "a", ("a",)),
        ("served_model_name", "a, b,c", ("a", "b", "c")),
        ("served_model_name", '["a", "b, c"]', ("a", "b, c")),
        ("itl_target", "0.25", 0.25),
        ("cache_memory", "0", 0),
        ("chat_template", "template.jinja", Path("template.jinja")),
        ("default_sampling", "{}", {}),
        ("default_sampling", '{"temperature": 0, "top_k": 40}', {"temperature": 0, "top_k": 40}),
        ("default_sampling", '{"top_p": 1, "min_p": 0.15}', {"top_p": 1, "min_p": 0.15}),
        ("default_sampling", '{"top_k": -1, "top_p": 0}', {"top_k": 0, "top_p": 0}),
        ("default_sampling", '{"repetition_penalty": 1.05}', {"repetition_penalty": 1.05}),
        ("default_sampling", '{"frequency_penalty": -2}', {"frequency_penalty": -2}),
        ("default_sampling", '{"presence_penalty": 2}', {"presence_penalty": 2}),
        ("tool_constraints", "requested", "requested"),
        ("default_thinking_budget", "0", 0),
        ("thinking_budgets", '{"low": 256, "high": null}', {"low": 256, "high": None}),
        ("max_model_len", "2", 2),
        ("max_seqs", "1", 1),
        ("max_waiting", "0", 0),
        ("max_waiting_tokens", "1", 1),
        ("api_keys_file", "template.jinja", Path("template.jinja")),
        ("cors_origin", "https://a.example,https://b.example", ("https://a.example", "https://b.example")),
        ("request_timeout", "0.5", 0.5),
        ("max_n", "128", 128),
        ("drain_delay", "0", 0),
        ("log_format", "json", "json"),
        ("log_level", "debug", "debug"),
        ("log_prompts", "1", True),
        ("threads", "1", 1),
    ],
)
def test_a_variable_sets_its_option_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"LFM_{name.upper()}", text)
    assert dict(Settings()) == DEFAULTS | {name: value}


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"LFM_{name.upper()}", "")
    assert dict(Settings()) == DEFAULTS


def test_an_argument_replaces_the_whole_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFM_DEFAULT_SAMPLING", '{"temperature": 1}')
    monkeypatch.setenv("LFM_SERVED_MODEL_NAME", "a,b")
    settings = Settings(default_sampling={"top_k": 5}, served_model_name=("c",))
    assert settings.default_sampling == {"top_k": 5}
    assert settings.served_model_name == ("c",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "http"),
        ("port", "80.5"),
        ("api_key", ""),
        ("model", ""),
        ("revision", ""),
        ("dtype", ""),
        ("served_model_name", "a,,b"),
        ("served_model_name", ","),
        ("served_model_name", "[a"),
        ("served_model_name", "[1]"),
        ("chat_template", "absent.jinja"),
        ("chat_template", "."),
        ("tool_constraints", "never"),
        ("default_thinking_budget", "-1"),
        ("thinking_budgets", "[]"),
        ("thinking_budgets", '{"lo": 1}'),
        ("thinking_budgets", '{"low": -1}'),
        ("thinking_budgets", '{"low": "1"}'),
        ("default_sampling", "temperature=1"),
        ("default_sampling", "[]"),
        ("default_sampling", "null"),
        ("default_sampling", '{"temprature": 1}'),
        ("default_sampling", '{"temperature": 2.1}'),
        ("default_sampling", '{"temperature": -0.1}'),
        ("default_sampling", '{"temperature": "1"}'),
        ("default_sampling", '{"temperature": null}'),
        ("default_sampling", '{"temperature": true}'),
        ("default_sampling", '{"temperature": NaN}'),
        ("default_sampling", '{"top_k": -2}'),
        ("default_sampling", '{"top_k": 1.5}'),
        ("default_sampling", '{"top_p": -0.1}'),
        ("default_sampling", '{"top_p": 1.1}'),
        ("default_sampling", '{"min_p": -0.1}'),
        ("default_sampling", '{"min_p": 1.1}'),
        ("default_sampling", '{"repetition_penalty": 0}'),
        ("default_sampling", '{"repetition_penalty": 10.1}'),
        ("default_sampling", '{"frequency_penalty": 2.1}'),
        ("default_sampling", '{"presence_penalty": -2.1}'),
        ("max_model_len", "1"),
        ("max_seqs", "0"),
        ("max_waiting", "-1"),
        ("max_waiting_tokens", "0"),
        ("request_timeout", "0"),
        ("request_timeout", "inf"),
        ("max_n", "129"),
        ("drain_delay", "-1"),
        ("ssl_certfile", "absent.pem"),
        ("log_format", "xml"),
        ("log_level", "loud"),
        ("threads", "0"),
    ],
)
def test_an_invalid_value_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {name}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 9000  # type: ignore[misc]


def test_the_api_key_is_not_shown() -> None:
    assert "hush" not in repr(Settings(api_key=SecretStr("hush")))
