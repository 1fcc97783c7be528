"""Models come from the hub: only the needed files, once, and with the token that the hub needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from server.runtime.graph import Precision, load
from server.runtime.model_folder import open_model_folder
from server.runtime.session import ModelSession, SessionOptions
from tests.unit.hub.conftest import REPO, Download
from tests.unit.hub.hub_server import COMMIT, Hub


def test_only_the_chosen_dtype_and_its_companion_files_are_downloaded(hub: Hub, download: Download) -> None:
    outcome = download()
    assert set(hub.downloads()) == {
        "onnx/model_q4.onnx",
        "onnx/model_q4.onnx_data",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert open_model_folder(outcome.folder).dtypes == ("q4",)
    assert outcome.said[0].startswith(f"Downloading 7 files of {REPO}, 0.")


def test_a_downloaded_model_can_be_served(download: Download) -> None:
    model = open_model_folder(download().folder)
    options = SessionOptions(threads=1, max_tokens=8)
    assert ModelSession(load(model.graph, Precision.FAST), options, model.head_dim).contract.states


def test_a_dtype_can_be_chosen(hub: Hub, download: Download) -> None:
    assert open_model_folder(download(dtype="fp32").folder).dtype == "fp32"
    assert {path for path in hub.downloads() if path.startswith("onnx/")} == {"onnx/model.onnx", "onnx/model.onnx_data"}


def test_all_shards_of_the_weights_are_downloaded(hub: Hub, download: Download) -> None:
    hub.repositories[REPO].files |= {f"onnx/model_q4.onnx_data_{i}": bytes(i) for i in (1, 2)}
    download()
    assert {f"onnx/model_q4.onnx_data{end}" for end in ("", "_1", "_2")} <= set(hub.downloads())


def test_a_revision_can_be_chosen(hub: Hub, download: Download) -> None:
    assert download(revision=COMMIT).folder.name == COMMIT
    assert download(revision="v9").error == f"{REPO} has no revision 'v9'. Choose a branch, a tag or a commit."


def test_two_processes_download_a_large_file_once(hub: Hub, download: Download) -> None:
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: download(), range(2))
    assert first.folder == second.folder
    assert open_model_folder(first.folder)
    assert hub.downloads()["onnx/model_q4.onnx_data"] == ["bytes=0-"]


def test_the_token_is_sent(hub: Hub, download: Download) -> None:
    hub.repositories[REPO].token = "secret"
    assert download().error == (
        f"{REPO} is neither a folder nor a model at {hub.url}. If it is a private model, set HF_TOKEN to a token "
        "with access to the model."
    )
    hub.requests.clear()
    assert open_model_folder(download(HF_TOKEN="secret").folder)
    assert {request.authorization for request in hub.requests if REPO in request.path} == {"Bearer secret"}


def test_a_redirect_to_another_host_is_followed_without_the_token(hub: Hub, download: Download) -> None:
    hub.repositories[REPO].token = "secret"
    hub.redirects = True
    hub.drops["model_q4.onnx_data"] = [3000]
    outcome = download(HF_TOKEN="secret")
    assert open_model_folder(outcome.folder).dtype == "q4"
    large = [request for request in hub.requests if request.path.endswith("model_q4.onnx_data")]
    assert {request.range for request in large if request.method == "GET"} == {"bytes=0-", "bytes=3000-"}
    for request in large:
        assert request.authorization == (None if (request.host or "").startswith("localhost") else "Bearer secret")


def test_templates_in_their_own_folder_are_downloaded(hub: Hub, download: Download) -> None:
    folder = "additional_chat_templates"
    hub.repositories[REPO].files |= {f"{folder}/tool_use.jinja": b"t", f"{folder}/more/x.jinja": b"x"}
    assert (download().folder / folder / "tool_use.jinja").read_bytes() == b"t"
    assert f"{folder}/more/x.jinja" not in hub.downloads()
