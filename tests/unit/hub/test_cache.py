"""Models in the cache are served without the hub: offline, and while it cannot be reached or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.runtime.model_folder import open_model_folder
from tests.unit.hub.conftest import REPO, Download
from tests.unit.hub.hub_server import Hub


def test_cached_files_are_not_downloaded_again(hub: Hub, download: Download) -> None:
    first = download()
    hub.requests.clear()
    assert download().folder == first.folder
    assert not hub.downloads()


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


def test_a_cache_that_cannot_be_written(download: Download, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = download(HF_HUB_CACHE=str(tmp_path / "file")).error
    assert str(error).startswith(f"{REPO} cannot be downloaded to {tmp_path}/file: [Errno 20] Not a directory")
