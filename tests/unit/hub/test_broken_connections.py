"""Downloads resume after a broken connection, and damaged parts are discarded."""

from __future__ import annotations

from pathlib import Path

from server.runtime.model_folder import open_model_folder
from tests.unit.hub.conftest import Download
from tests.unit.hub.hub_server import Hub


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
