"""The list of models, their names, contexts, templates and default sampling, and the health routes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.errors import StartupError
from server.export import export_random
from server.loading.load import load_model
from server.settings import Settings
from tests import models
from tests.serving import Server, StartServer


def test_the_built_in_model_is_listed_under_its_name(demo: Server) -> None:
    (entry,) = demo.client.models.list().data
    assert (entry.id, entry.object, entry.owned_by) == ("lfm2-demo", "model", "lfm-serve")
    assert demo.client.models.retrieve("lfm2-demo").id == "lfm2-demo"


def test_a_folder_is_served_under_its_name_and_never_its_path(tiny: Server) -> None:
    assert [entry.id for entry in tiny.client.models.list().data] == ["tiny-model"]


def test_a_model_may_have_several_names_even_with_slashes(start_server: StartServer) -> None:
    server = start_server(served_model_name=("gpt-4o", "my/own"))
    assert [entry.id for entry in server.client.models.list().data] == ["gpt-4o", "my/own"]
    assert server.client.models.retrieve("my/own").id == "my/own"
    answer = server.chat(model="my/own", messages=[{"role": "user", "content": "hello"}], max_tokens=1)
    assert answer.json()["model"] == "my/own"


def test_a_model_lists_its_context_and_its_default_sampling(start_server: StartServer) -> None:
    server = start_server(max_model_len=512, default_sampling={"temperature": 0.7})
    model = httpx.get(f"{server.url}/v1/models/lfm2-demo").json()
    assert model["max_model_len"] == 512
    expected = {"temperature": 0.7, "min_p": 0.15, "repetition_penalty": 1.05, "top_p": 1.0, "top_k": 0}
    assert model["sampling_defaults"].items() >= expected.items()


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [("dense", (0.3, 0.15, 1.05)), ("attention-only", (1.0, 0.0, 1.0))],
)
def test_without_a_generation_config_lfm2_gets_its_cards_sampling_and_others_none(
    tmp_path: Path, start_server: StartServer, kind: str, sampling: tuple[float, ...]
) -> None:
    folder = models.build(kind, tmp_path / kind)
    (folder / "generation_config.json").unlink()
    defaults = httpx.get(f"{start_server(model=str(folder)).url}/v1/models/{kind}").json()["sampling_defaults"]
    assert (defaults["temperature"], defaults["min_p"], defaults["repetition_penalty"]) == sampling


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LFM2.5-8B-A1B-ONNX", (128_000, 0.2, 80, 0.0)),
        ("LFM2.5-1.2B-Instruct-ONNX", (32_768, 0.1, 50, 0.0)),
        ("LFM2-8B-A1B-ONNX", (32_768, 0.3, 0, 0.15)),
    ],
)
def test_the_name_of_a_folder_decides_the_context_and_the_sampling(
    tmp_path: Path, start_server: StartServer, name: str, expected: tuple[float, ...]
) -> None:
    folder = tmp_path / name
    export_random(models.DENSE | {"max_position_embeddings": 128_000}, folder, "fp32")
    (folder / "generation_config.json").unlink()
    model = httpx.get(f"{start_server(model=str(folder), threads=1).url}/v1/models/{name}").json()
    sampling = model["sampling_defaults"]
    assert (model["max_model_len"], *(sampling[key] for key in ("temperature", "top_k", "min_p"))) == expected


def test_options_override_what_the_name_decides(tmp_path: Path, start_server: StartServer) -> None:
    folder = models.build("dense", tmp_path / "LFM2.5-8B-A1B")
    (folder / "generation_config.json").unlink()
    server = start_server(model=str(folder), threads=1, max_model_len=512, default_sampling={"top_k": 3})
    model = httpx.get(f"{server.url}/v1/models/LFM2.5-8B-A1B").json()
    assert model["max_model_len"] == 512
    assert (model["sampling_defaults"]["temperature"], model["sampling_defaults"]["top_k"]) == (0.2, 3)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"top_k": 2.5}, "top_k to 2.5"),
        ({"top_k": "50"}, 'top_k to "50"'),
        ({"top_k": True}, "top_k to true"),
        ({"min_p": 2}, "min_p to 2"),
        ({"temperature": float("nan")}, "temperature to NaN"),
        ({"temperature": -0.1}, "temperature to -0.1"),
        ({"top_p": [0.9]}, "top_p to [0.9]"),
        ({"repetition_penalty": 0}, "repetition_penalty to 0"),
        ({"eos_token_id": "7"}, 'eos_token_id "7"'),
        ({"eos_token_id": [7, 1024]}, "eos_token_id [7, 1024]"),
        ({"eos_token_id": -1}, "eos_token_id -1"),
        ({"eos_token_id": True}, "eos_token_id true"),
        ({"eos_token_id": {"id": 7}}, 'eos_token_id {"id": 7}'),
    ],
)
def test_a_generation_config_that_cannot_be_served_fails_the_start(
    tmp_path: Path, values: dict[str, Any], problem: str
) -> None:
    folder = models.build("dense", tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps(values))
    with pytest.raises(StartupError) as caught:
        load_model(Settings(model=str(folder), threads=1, max_seqs=1), lambda _: None)
    assert problem in str(caught.value)
    assert str(folder / "generation_config.json") in str(caught.value)


def test_a_generation_config_with_whole_numbers_as_floats_is_read(tmp_path: Path, start_server: StartServer) -> None:
    folder = models.build("dense", tmp_path / "model")
    config = {"top_k": 50.0, "temperature": 1, "min_p": None, "top_p": 1.0, "eos_token_id": [7]}
    (folder / "generation_config.json").write_text(json.dumps(config))
    server = start_server(model=str(folder), threads=1)
    sampling = httpx.get(f"{server.url}/v1/models/model").json()["sampling_defaults"]
    assert (sampling["top_k"], sampling["temperature"], sampling["min_p"]) == (50, 1, 0)
    answer = server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=2)
    assert answer.status_code == 200


def test_an_option_replaces_an_invalid_value_of_the_generation_config(
    tmp_path: Path, start_server: StartServer
) -> None:
    folder = models.build("dense", tmp_path / "model")
    (folder / "generation_config.json").write_text('{"min_p": 2, "eos_token_id": []}')
    server = start_server(model=str(folder), threads=1, default_sampling={"min_p": 0.1})
    sampling = httpx.get(f"{server.url}/v1/models/model").json()["sampling_defaults"]
    assert sampling["min_p"] == 0.1


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_dialect_answers(tmp_path: Path, start_server: StartServer, kind: str) -> None:
    server = start_server(model=str(models.build(kind, tmp_path / kind)), threads=1)
    answer = server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=5, logit_bias={"7": -100})
    assert answer.json()["usage"]["completion_tokens"] == 5


def test_a_chosen_template_is_used(tmp_path: Path, start_server: StartServer) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("<|im_start|>{{ messages[0].content }}")
    usage = start_server(chat_template=template).chat(messages=[{"role": "user", "content": "1"}], max_tokens=1).json()
    assert usage["usage"]["prompt_tokens"] == 2


def test_the_fingerprint_names_the_precision(tmp_path: Path, start_server: StartServer) -> None:
    folder = models.build("q4", tmp_path / "model")
    said = [
        start_server(model=str(folder), threads=1, precision=precision)
        .chat(messages=[{"role": "user", "content": "hello"}], max_tokens=1)
        .json()["system_fingerprint"]
        for precision in ("fast", "exact", "fast")
    ]
    assert said[0] == said[2] != said[1]


def test_a_model_without_a_chat_template_takes_texts(tmp_path: Path, start_server: StartServer) -> None:
    folder = models.build("dense", tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    server = start_server(model=str(folder), threads=1)
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    post = functools.partial(httpx.post, timeout=30)
    assert post(f"{server.url}/v1/completions", json={"prompt": "hello", "max_tokens": 2}).status_code == 200
    assert post(f"{server.url}/tokenize", json={"prompt": "hello"}).json()["count"] > 0
    for path in ("/v1/chat/completions", "/tokenize"):
        for extra in ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}):
            answer = post(f"{server.url}{path}", json=chat | extra)
            assert answer.status_code == 400
            assert "has no chat template" in answer.json()["error"]["message"]
    assert httpx.get(f"{server.url}/ready").status_code == 200


def test_a_template_for_tools_is_used_for_chats_with_tools(tmp_path: Path, start_server: StartServer) -> None:
    folder = models.build("dense", tmp_path / "model")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("<|im_start|>")
    server = start_server(model=str(folder), threads=1)
    chat = {"messages": [{"role": "user", "content": "hello"}], "add_special_tokens": False}
    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    plain, with_tools = (httpx.post(f"{server.url}/tokenize", json=chat | extra).json() for extra in ({}, tools))
    assert plain["count"] > 1
    assert with_tools["count"] == 1


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_template_fails_the_start(tmp_path: Path, content: str) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(content)
    with pytest.raises(StartupError, match="is empty"):
        load_model(Settings(chat_template=template, threads=1, max_seqs=1), lambda _: None)


def test_alive_and_ready(demo: Server) -> None:
    assert httpx.get(f"{demo.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{demo.url}/ready").json() == {"status": "ready"}
