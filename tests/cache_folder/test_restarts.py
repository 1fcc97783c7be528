"""Prefixes survive restarts and reach other servers."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import models
from tests.cache_folder.conftest import KINDS, StartServer
from tests.cache_folder.prompts import BLOCKS, CACHED_TOKENS, complete, disk, entries, prompt, until_written
from tests.server_process import server_process

KEYS = '[alice]\nkey = "sk-alice"\n\n[bob]\nkey = "sk-bob"\n'


@pytest.mark.parametrize("kind", [*KINDS, "genai", "float16-state", "joined-caches"])
def test_a_prompt_is_read_from_disk_after_a_restart(start: StartServer, kind: str) -> None:
    with start(kind) as server:
        cold = complete(server.url, prompt())
        warm = complete(server.url, prompt())
    with start(kind) as server:
        restarted = complete(server.url, prompt())
        assert disk(server, "hit_tokens_total") == restarted.cached
    assert cold.cached == 0
    assert restarted.cached == CACHED_TOKENS
    assert restarted.text == warm.text == cold.text
    assert restarted.logprobs == pytest.approx(cold.logprobs, abs=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_server_reads_what_the_first_has_written(start: StartServer, tmp_path: Path, kind: str) -> None:
    with start(kind) as first, start(kind) as second:
        cold = complete(first.url, prompt())
        until_written(tmp_path / "cache", BLOCKS)
        other = complete(second.url, prompt())
        assert (other.cached, other.text) == (CACHED_TOKENS, cold.text)
        assert other.logprobs == pytest.approx(cold.logprobs, abs=1e-2)


def test_a_killed_server_leaves_what_it_had_written(
    build: Callable[[str], Path], start: StartServer, tmp_path: Path
) -> None:
    options = ("--model", str(build(KINDS[0])), "--served-model-name", "any", "--threads", "1")
    with server_process(*options, "--cache-folder", str(tmp_path / "cache")) as killed:
        killed.wait_until_ready()
        cold = complete(killed.url, prompt())
        until_written(tmp_path / "cache", BLOCKS)
    with start() as server:
        again = complete(server.url, prompt())
    assert (again.cached, again.text) == (CACHED_TOKENS, cold.text)


def test_a_read_that_takes_longer_than_computing_is_not_waited_for(start: StartServer) -> None:
    with start() as server:
        cold = complete(server.url, prompt())
    with start(prefill_seconds=1e-9) as server:
        again = complete(server.url, prompt())
        assert (again.cached, again.text) == (0, cold.text)
        assert disk(server, "slow_reads_total") == 1


def test_a_lookup_continues_from_memory_into_disk(start: StartServer) -> None:
    with start() as server:
        cold = complete(server.url, prompt())
    with start() as server:
        assert complete(server.url, prompt()[:150]).cached == 128
        whole = complete(server.url, prompt())
        assert (whole.cached, whole.text) == (CACHED_TOKENS, cold.text)
        assert disk(server, "hit_tokens_total") == 128 + CACHED_TOKENS - 149  # memory has all but the last of the 150


def test_the_next_turn_continues_from_the_answer(start: StartServer) -> None:
    with start() as server:
        first = complete(server.url, prompt(), max_tokens=100, return_token_ids=True)
        until_idle = first.tokens
    with start() as server:
        turn = [*prompt(), *until_idle, *prompt(1)[:20]]
        assert complete(server.url, turn).cached == (len(prompt()) + 99) // 64 * 64


def test_salts_share_nothing_on_disk(start: StartServer) -> None:
    with start() as server:
        complete(server.url, prompt(), cache_salt="mine")
    with start() as server:
        assert complete(server.url, prompt()).cached == 0
        assert complete(server.url, prompt(), cache_salt="yours").cached == 0
        assert complete(server.url, prompt(), cache_salt="mine").cached == CACHED_TOKENS


def test_keys_share_nothing_on_disk(start: StartServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    alice, bob = ({"Authorization": f"Bearer sk-{name}"} for name in ("alice", "bob"))
    with start(api_keys_file=keys) as server:
        complete(server.url, prompt(), headers=alice)
    with start(api_keys_file=keys) as server:
        assert complete(server.url, prompt(), headers=bob).cached == 0
        assert complete(server.url, prompt(), headers=alice).cached == CACHED_TOKENS


def test_models_share_a_folder_without_mixing(start: StartServer, tmp_path: Path) -> None:
    """The other model differs only in the values of its weights."""
    other = str(models.build(KINDS[0], tmp_path / "other", seed=1))
    with start() as server:
        mine = complete(server.url, prompt())
    with start(model=other) as server:
        theirs = complete(server.url, prompt())
    assert theirs.cached == 0
    with start() as server:
        again = complete(server.url, prompt())
    assert (again.cached, again.text) == (CACHED_TOKENS, mine.text)
    with start(model=other) as server:
        again = complete(server.url, prompt())
    assert (again.cached, again.text) == (CACHED_TOKENS, theirs.text)


@pytest.mark.parametrize("kind", KINDS)
def test_float16_entries_are_smaller_and_separate(start: StartServer, tmp_path: Path, kind: str) -> None:
    with start(kind) as server:
        cold = complete(server.url, prompt())
    whole = sum(path.stat().st_size for path in entries(tmp_path / "cache"))
    with start(kind, cache_disk_dtype="float16") as server:
        assert complete(server.url, prompt()).cached == 0
    assert len(entries(tmp_path / "cache")) == 2 * BLOCKS
    assert sum(path.stat().st_size for path in entries(tmp_path / "cache")) < 1.9 * whole
    with start(kind, cache_disk_dtype="float16") as server:
        half = complete(server.url, prompt())
    assert half.cached == CACHED_TOKENS
    assert half.logprobs == pytest.approx(cold.logprobs, abs=0.05)


def test_a_server_writes_what_is_only_in_memory_when_it_stops(start: StartServer, tmp_path: Path) -> None:
    with start() as server:
        complete(server.url, prompt())
        until_written(tmp_path / "cache", BLOCKS)
        shutil.rmtree(tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == BLOCKS
    with start() as server:
        assert complete(server.url, prompt()).cached == CACHED_TOKENS


def test_only_the_user_can_read_the_entries(start: StartServer, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with start() as server:
            complete(server.url, prompt())
    finally:
        os.umask(before)
    written = entries(tmp_path / "cache")
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    folders = {tmp_path / "cache", tmp_path / "cache" / "blocks", *(path.parent for path in written)}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_without_a_folder_nothing_is_written(start: StartServer, tmp_path: Path) -> None:
    with start(cache_folder=None) as server:
        complete(server.url, prompt())
        assert disk(server, "writable") == disk(server, "bytes_budget") == 0
    assert not (tmp_path / "cache").exists()
