"""What is served, under which names, and whether the server is there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

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


def test_a_model_tells_its_context_and_the_sampling_in_force(start_server: StartServer) -> None:
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


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_dialect_answers(tmp_path: Path, start_server: StartServer, kind: str) -> None:
    server = start_server(model=str(models.build(kind, tmp_path / kind)), threads=1)
    answer = server.chat(messages=[{"role": "user", "content": "hello"}], max_tokens=5, logit_bias={"7": -100})
    assert answer.json()["usage"]["completion_tokens"] == 5


def test_a_template_of_ones_own_is_used(tmp_path: Path, start_server: StartServer) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("<|im_start|>{{ messages[0].content }}")
    usage = start_server(chat_template=template).chat(messages=[{"role": "user", "content": "1"}], max_tokens=1).json()
    assert usage["usage"]["prompt_tokens"] == 2


def test_alive_and_ready(demo: Server) -> None:
    assert httpx.get(f"{demo.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{demo.url}/ready").json() == {"status": "ready"}
