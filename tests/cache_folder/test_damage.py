"""A file with other contents than its name says is not used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.cache_folder.conftest import KINDS, StartServer
from tests.cache_folder.prompts import complete, disk, entries, prompt

Damage = Callable[[Path, Path], None]
LENGTH = 200
"""Tokens of each prompt, which are three blocks; the second is damaged."""


def flip(position: Callable[[bytes], int]) -> Damage:
    """Change the byte at a position in the file."""

    def damage(file: Path, other: Path) -> None:
        content = bytearray(file.read_bytes())
        content[position(bytes(content))] ^= 1
        file.write_bytes(content)

    return damage


def header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def replace(content: Callable[[bytes], bytes]) -> Damage:
    return lambda file, other: file.write_bytes(content(file.read_bytes())) and None


def put_pipe(file: Path, other: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def put_link(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to(other)


DAMAGES: dict[str, Damage] = {
    "length": flip(lambda content: 0),
    "length, high byte": flip(lambda content: 7),
    "header": flip(lambda content: content.index(b"data_offsets")),
    "model": flip(lambda content: content.index(b'"model":"') + 12),
    "checksum": flip(lambda content: content.index(b'"checksum":"') + 14),
    "tokens": flip(header_end),
    "kv": flip(lambda content: header_end(content) + 64 * 8 + 100),
    "last byte": flip(lambda content: len(content) - 1),
    "truncated": replace(lambda content: content[: len(content) // 2]),
    "without its last byte": replace(lambda content: content[:-1]),
    "too long": replace(lambda content: content + b"\0"),
    "empty": replace(lambda content: b""),
    "zeros": replace(lambda content: bytes(len(content))),
    "another entry": lambda file, other: file.write_bytes(other.read_bytes()) and None,
    "a pipe": put_pipe,
    "a link": put_link,
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_entries_are_removed_and_computed_again(start: StartServer, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "cache"
    prompts = {name: prompt(seed, LENGTH) for seed, name in enumerate(DAMAGES, start=1)}
    middles: dict[str, Path] = {}
    cold = {}
    with start(kind, log_level="error") as server:
        for name, tokens in prompts.items():
            cold[name] = complete(server.url, tokens)
    for path in entries(folder):
        with safe_open(path, "numpy") as entry:
            end, own = entry.metadata()["end"], entry.get_tensor("tokens").tolist()
        if end == "128":
            (name,) = (name for name, tokens in prompts.items() if tokens[64:128] == own)
            middles[name] = path
    sound = {name: path.read_bytes() for name, path in middles.items()}
    for name, damage in DAMAGES.items():
        damage(middles[name], next(path for path in entries(folder) if path not in middles.values()))
    with start(kind, log_level="error") as server:
        for name, tokens in prompts.items():
            answer = complete(server.url, tokens)
            assert (answer.cached, answer.text) == (64, cold[name].text), name
            assert answer.logprobs == pytest.approx(cold[name].logprobs, abs=1e-2), name
        assert disk(server, "damaged_files_total") == len(DAMAGES)
    for name, path in middles.items():
        assert path.is_file()
        assert not path.is_symlink()
        assert len(path.read_bytes()) == len(sound[name]), name


def test_an_entry_is_a_safetensors_file(start: StartServer, tmp_path: Path) -> None:
    with start() as server:
        complete(server.url, prompt())
    ends = set()
    for path in entries(tmp_path / "cache"):
        with safe_open(path, "numpy") as entry:
            metadata = entry.metadata()
            assert metadata["name"] == path.stem
            ends.add(int(metadata["end"]))
            assert entry.get_tensor("tokens").tolist() == prompt()[int(metadata["end"]) - 64 : int(metadata["end"])]
            assert {"past_conv.0", "past_key_values.1.key", "past_key_values.1.value"} <= set(entry.keys())
    assert ends == {64, 128, 192, 256, 320, 384}
