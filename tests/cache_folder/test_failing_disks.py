"""A folder that fails costs a warning and the cache, never an answer."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache_folder.conftest import StartServer
from tests.cache_folder.prompts import BLOCKS, CACHED_TOKENS, complete, disk, entries, prompt, until_written
from tests.waiting import wait_until


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory; skips the test if that is not allowed."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in records if record.name.startswith("server.cache_folder")]


@pytest.fixture(autouse=True)
def _logs_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "server")


def test_a_full_disk_keeps_what_fits(start: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start() as server:
        cold = [complete(server.url, prompt(seed)).text for seed in range(4)]
    size = entries(tmp_path / "cache")[0].stat().st_size
    shutil.rmtree(tmp_path / "cache")
    with mounted(tmp_path / "cache", f"size={size * 9},mode=700"), start() as server:
        assert [complete(server.url, prompt(seed)).text for seed in range(4)] == cold
        wait_until(lambda: disk(server, "errors_total") >= 1)
        assert disk(server, "writable") == 0
        assert len(warnings(caplog)) == 1
        assert "No space left on device" in warnings(caplog)[0]
        assert not list((tmp_path / "cache").rglob("*.partial"))
        assert 0 < len(entries(tmp_path / "cache")) < 4 * BLOCKS


def test_a_read_only_folder_is_read(start: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mounted(tmp_path / "cache", "mode=700"):
        with start() as server:
            cold = complete(server.url, prompt())
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "cache"], check=True)
        with start() as server:
            again = complete(server.url, prompt())
            assert (again.cached, again.text) == (CACHED_TOKENS, cold.text)
            assert complete(server.url, prompt(1)).cached == 0
            wait_until(lambda: disk(server, "errors_total") >= 1)
            assert disk(server, "writable") == 0
        assert len(warnings(caplog)) == 1


def test_a_folder_that_cannot_be_made_costs_a_warning(
    start: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with start(cache_folder=tmp_path / "file" / "cache") as server:
        assert complete(server.url, prompt()).cached == 0
        assert complete(server.url, prompt()).cached == len(prompt()) - 1
        wait_until(lambda: disk(server, "errors_total") >= 1)
        assert disk(server, "writable") == 0
    assert len(warnings(caplog)) == 1


def test_a_folder_deleted_while_serving_is_made_again(start: StartServer, tmp_path: Path) -> None:
    with start() as server:
        cold = complete(server.url, prompt())
        until_written(tmp_path / "cache", BLOCKS)
        shutil.rmtree(tmp_path / "cache")
        assert complete(server.url, prompt()).text == cold.text
        other = complete(server.url, prompt(1))
        until_written(tmp_path / "cache", BLOCKS)
    with start() as server:
        again = complete(server.url, prompt(1))
        assert (again.cached, again.text) == (CACHED_TOKENS, other.text)


def test_the_folder_stays_within_its_budget(start: StartServer, tmp_path: Path) -> None:
    """A sparse file of the whole budget, the oldest entry, makes room for all others."""
    folder = tmp_path / "cache" / "blocks" / "00"
    folder.mkdir(parents=True)
    old = folder / f"{'0' * 32}.safetensors"
    with old.open("wb") as file:
        file.truncate(1 << 30)
    os.utime(old, (0, 0))
    with start(cache_disk=1) as server:
        complete(server.url, prompt())
        until_written(tmp_path / "cache", BLOCKS)
        wait_until(lambda: disk(server, "evicted_blocks_total") == 1)
        assert not old.exists()
        assert disk(server, "bytes") <= disk(server, "bytes_budget") == 1 << 30


def test_a_cache_in_memory_is_required(start: StartServer) -> None:
    with pytest.raises(Exception, match="--cache-folder requires a prefix cache in memory"), start(cache_memory=0):
        pass
