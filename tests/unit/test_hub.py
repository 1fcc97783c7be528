"""Models come from the hub: only the needed files, resumed, from the cache if there is no hub; errors are clear."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.errors import HubError
from server.hub.repository import is_repo_id, locate
from server.runtime.graph import Precision, load
from server.runtime.model_folder import open_model_folder
from server.runtime.session import ModelSession, SessionOptions
from tests import models
from tests.hub_server import COMMIT, Hub, Repository, files_of, running_hub

ROOT = Path(__file__).parents[2]
REPO = "org/tiny-ONNX"
# huggingface_hub reads its environment when it is imported: each download gets a process of its own.
PROGRAM = """
import json, sys
from server.errors import HubError
from server.hub import download
from server.hub.repository import locate
download.RETRY_DELAYS = (0, 0)
said = []
try:
    folder, error = str(locate(*json.loads(sys.argv[1]), said.append)), None
except HubError as problem:
    folder, error = None, str(problem)
print(json.dumps([folder, error, said]))
"""


@dataclass(frozen=True)
class Outcome:
    """`error` is the message in place of a folder; `said` the lines of progress."""

    folder: Path
    error: str | None
    said: list[str]


Download = Callable[..., Outcome]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A repository of two dtypes, each with its weights in a separate file, and some unrelated files."""
    folders = (models.build(kind, tmp_path_factory.mktemp(kind)) for kind in ("onnx-community", "q4"))
    fp32, q4 = map(files_of, folders)
    other = {"README.md": b"# A model", "onnx/model_q4f16.onnx_data": b"no graph", "model.safetensors": bytes(5000)}
    return fp32 | q4 | other


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with running_hub({REPO: Repository(dict(files))}) as hub:
        yield hub


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    """Locate a model in a new process; the cache lasts for the test. Keywords are environment variables."""

    def run(model: str = REPO, revision: str | None = None, dtype: str = "auto", **variables: str) -> Outcome:
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        env |= {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url} | variables
        command = [sys.executable, "-c", PROGRAM, json.dumps([model, revision, dtype])]
        ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        folder, error, said = json.loads(ended.stdout)
        return Outcome(Path(folder or "."), error, said)

    return run


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


def test_cached_files_are_not_downloaded_again(hub: Hub, download: Download) -> None:
    first = download()
    hub.requests.clear()
    assert download().folder == first.folder
    assert not hub.downloads()


def test_a_revision_can_be_chosen(hub: Hub, download: Download) -> None:
    assert download(revision=COMMIT).folder.name == COMMIT
    assert download(revision="v9").error == f"{REPO} has no revision 'v9'. Choose a branch, a tag or a commit."


def test_a_download_resumes_where_the_connection_broke(hub: Hub, download: Download, files: dict[str, bytes]) -> None:
    hub.drops["model_q4.onnx_data"] = [3000, 20_000]
    data = download().folder / "onnx" / "model_q4.onnx_data"
    assert hub.downloads()["onnx/model_q4.onnx_data"] == ["bytes=0-", "bytes=3000-", "bytes=23000-"]
    assert data.read_bytes() == files["onnx/model_q4.onnx_data"]


def test_an_abandoned_download_resumes_when_run_again(hub: Hub, download: Download, files: dict[str, bytes]) -> None:
    hub.drops["model_q4.onnx_data"] = [300_000, 0, 0, 0]
    error = download().error
    assert error is not None
    assert error.startswith("The download of onnx/model_q4.onnx_data was interrupted (")
    assert error.endswith("after 0.3 MB of 0.5 MB. Run again to resume.")
    hub.requests.clear()
    data = download().folder / "onnx" / "model_q4.onnx_data"
    assert hub.downloads()["onnx/model_q4.onnx_data"] == ["bytes=300000-"]
    assert data.read_bytes() == files["onnx/model_q4.onnx_data"]


def test_a_server_without_ranges_sends_the_file_again(hub: Hub, download: Download, files: dict[str, bytes]) -> None:
    hub.drops["model_q4.onnx_data"], hub.ranges = [3000], False
    assert (download().folder / "onnx" / "model_q4.onnx_data").read_bytes() == files["onnx/model_q4.onnx_data"]


def test_a_damaged_partial_download_is_discarded(hub: Hub, download: Download, tmp_path: Path) -> None:
    hub.drops["model_q4.onnx_data"] = [3000, 0, 0, 0]
    assert download().error
    (partial,) = tmp_path.rglob("*.incomplete")
    partial.write_bytes(bytes(3000))
    message = "onnx/model_q4.onnx_data does not match its checksum. Run again to download it from the start."
    assert download().error == message
    assert open_model_folder(download().folder)


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


def test_a_repository_of_an_adapter(hub: Hub, download: Download) -> None:
    hub.repositories[REPO].files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}
    assert "merge the adapter into its model" in (download().error or "")


def test_offline_the_cached_model_is_served_without_requests(hub: Hub, download: Download) -> None:
    cached = download(dtype="fp32").folder
    hub.requests.clear()
    outcome = download(HF_HUB_OFFLINE="1")
    assert (outcome.folder, outcome.said) == (cached, [])
    assert open_model_folder(outcome.folder).dtype == "fp32"
    assert not hub.requests


def test_offline_a_model_outside_the_cache_is_refused(download: Download, tmp_path: Path) -> None:
    offline = (
        f"HF_HUB_OFFLINE is set, so only models in the cache ({tmp_path}/hf/hub) can be served. Unset it to download "
        f"{REPO}."
    )
    assert download(HF_HUB_OFFLINE="1").error == offline
    download(dtype="fp32")
    missing = f"{REPO} in the cache has no dtype 'q4'; it has fp32. {offline}"
    assert download(dtype="q4", HF_HUB_OFFLINE="1").error == missing


def test_a_cache_without_all_weights_is_not_served(download: Download) -> None:
    (download().folder / "onnx" / "model_q4.onnx_data").unlink()
    assert "only models in the cache" in str(download(HF_HUB_OFFLINE="1").error)


def test_the_cache_stands_in_for_an_unreachable_hub(download: Download, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    error = str(download(HF_ENDPOINT=nowhere).error)
    assert error.startswith(f"The hub at {nowhere} cannot be reached (")
    assert error.endswith(
        "Connection refused). Check the network, or set HF_ENDPOINT to a mirror. Without a hub, only folders and "
        f"models in the cache ({tmp_path}/hf/hub) can be served."
    )
    cached = download().folder
    outcome = download(HF_ENDPOINT=nowhere)
    assert (outcome.folder, outcome.said) == (cached, [f"{error} Serving {REPO} from the cache."])


@pytest.mark.parametrize(("status", "advice"), [(503, "Try again later"), (401, "Check HF_TOKEN")])
def test_the_cache_stands_in_for_a_hub_that_refuses(hub: Hub, download: Download, status: int, advice: str) -> None:
    hub.failing = status
    message = f"{hub.url} refused {REPO} with status {status}. {advice}."
    assert download().error == message
    hub.failing = None
    cached = download().folder
    hub.failing = status
    assert download().folder == cached


def test_a_gated_model(hub: Hub, download: Download) -> None:
    hub.repositories[REPO].gated = True
    assert download().error == (
        f"{REPO} is gated. Accept its terms at {hub.url}/{REPO} and set HF_TOKEN to a token of your account."
    )


def test_a_dtype_missing_from_the_repository(download: Download) -> None:
    assert download(dtype="q8").error == f"{REPO} has no dtype 'q8'; it has q4, fp32."


def test_a_repository_without_graphs(hub: Hub, download: Download) -> None:
    hub.repositories |= {"org/tiny": Repository({"README.md": b""}), "org/other-ONNX": Repository({})}
    hub.repositories["org/checkpoint"] = Repository({"model.safetensors": b""})
    no_graph = "has no ONNX graph (onnx/model*.onnx)"
    assert download("org/tiny").error == f"org/tiny {no_graph}: try onnx-community/tiny-ONNX."
    assert download("org/other-ONNX").error == f"org/other-ONNX {no_graph}."
    assert download("org/checkpoint").error == (
        f"org/checkpoint {no_graph}: try onnx-community/checkpoint-ONNX, or download the checkpoint and export it "
        "with `lfm-serve export`."
    )


def test_a_full_disk_is_noticed_before_the_download(hub: Hub, download: Download, tmp_path: Path) -> None:
    hub.repositories[REPO].claimed_sizes["onnx/model_q4.onnx_data"] = 10**17
    error = download().error
    assert error is not None
    assert error.startswith(f"{REPO} needs 100000000.0 GB more, but {tmp_path} has only ")
    assert error.endswith(" GB free. Make room, choose a smaller dtype, or set HF_HOME to a folder on another disk.")
    assert not hub.downloads()


def test_a_cache_that_cannot_be_written(download: Download, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = download(HF_HUB_CACHE=str(tmp_path / "file")).error
    assert str(error).startswith(f"{REPO} cannot be downloaded to {tmp_path}/file: [Errno 20] Not a directory")


def test_an_endpoint_other_than_a_hub(hub: Hub, download: Download) -> None:
    hub.page = b"<html>Please log in to the network</html>"
    assert download().error == f"{hub.url} does not answer like a Hugging Face hub. Check HF_ENDPOINT."


@pytest.mark.parametrize(
    "text", ["absent", "./absent", "../org/model", "/org/model", "a/b/c", "https://host/org/model"]
)
def test_a_name_that_is_neither_a_folder_nor_a_repository(text: str) -> None:
    assert not is_repo_id(text)
    with pytest.raises(HubError) as caught:
        locate(text, None, "auto")
    assert str(caught.value) == (f"{text} is neither a folder nor the name of a model on the hub (organization/name).")


def test_a_name_the_hub_does_not_allow(download: Download) -> None:
    assert str(download("org--a/model").error).startswith("org--a/model is not a valid name of a model on the hub: ")
