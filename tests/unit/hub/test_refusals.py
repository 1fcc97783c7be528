"""A model that cannot be downloaded is refused with the reason and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import HubError
from server.hub.repository import is_repo_id, locate
from tests.unit.hub.conftest import REPO, Download
from tests.unit.hub.hub_server import Hub, Repository


def test_a_repository_of_an_adapter(hub: Hub, download: Download) -> None:
    hub.repositories[REPO].files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}
    assert "merge the adapter into its model" in (download().error or "")


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
    assert error.startswith(f"{REPO} needs 100000000.0 GB of disk space, but {tmp_path} has only ")
    assert error.endswith(" GB free. Make room, choose a smaller dtype, or set HF_HOME to a folder on another disk.")
    assert not hub.downloads()


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
