"""Members of the LFM2 family are recognised by name, and any other name gets LFM2's values."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.runtime.lfm2_family import names_of, recognise


@pytest.mark.parametrize(
    ("name", "member", "context", "temperature"),
    [
        ("LFM2.5-8B-A1B-ONNX", "LFM2.5-8B-A1B", 128_000, 0.2),
        ("lfm2.5-8b-a1b", "LFM2.5-8B-A1B", 128_000, 0.2),
        ("models--LiquidAI--LFM2.5-2.6B-ONNX", "LFM2.5-2.6B", 128_000, 0.2),
        ("LFM2.5-24B-A2B-ONNX", "LFM2.5-24B-A2B", 128_000, 0.3),
        ("LFM2.5-1.2B-Thinking-ONNX", "LFM2.5-1.2B", 32_768, 0.1),
        ("my_LFM2_5-350M_tuned", "LFM2.5-350M", 32_768, 0.1),
        ("LFM2.5-230M-Base-4bit", "LFM2.5-230M", 32_768, 0.1),
        ("LFM2-8B-A1B-ONNX", "LFM2", 32_768, 0.3),
        ("LFM2-24B-A2B-ONNX", "LFM2", 32_768, 0.3),
        ("LFM2-2.6B", "LFM2", 32_768, 0.3),
        ("LFM2-350M", "LFM2", 32_768, 0.3),
        ("LFM2-5B", "LFM2", 32_768, 0.3),
        ("LFM2.5-12.6B", "LFM2", 32_768, 0.3),
        ("LFM2.5-350M-draft-for-8B-A1B", "LFM2", 32_768, 0.3),
        ("LFM2.5", "LFM2", 32_768, 0.3),
        ("LFM2.51-350M", "LFM2", 32_768, 0.3),
        ("8B-A1B", "LFM2", 32_768, 0.3),
        ("", "LFM2", 32_768, 0.3),
    ],
)
def test_a_name_stands_for_a_member(name: str, member: str, context: int, temperature: float) -> None:
    found = recognise([name])
    assert (found.name, found.context, found.sampling["temperature"]) == (member, context, temperature)


def test_the_sampling_of_each_group() -> None:
    assert recognise(["LFM2.5-8B-A1B"]).sampling == {"temperature": 0.2, "top_k": 80, "repetition_penalty": 1.05}
    assert recognise(["LFM2.5-1.2B"]).sampling == {"temperature": 0.1, "top_k": 50, "repetition_penalty": 1.05}
    assert recognise(["LFM2-1.2B"]).sampling == {"temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05}


def test_the_folders_name_counts_before_the_configs(tmp_path: Path) -> None:
    folder = tmp_path / "LFM2-8B-A1B"
    assert recognise(names_of(folder, "LiquidAI/LFM2.5-8B-A1B")).name == "LFM2"
    assert recognise(names_of(tmp_path / "my-model", "LiquidAI/LFM2.5-8B-A1B")).name == "LFM2.5-8B-A1B"


def test_the_last_part_of_a_path_that_names_the_family_counts(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    assert recognise(names_of(folder, "/data/LFM2.5-1.2B/checkpoint-100")).name == "LFM2.5-1.2B"
    assert recognise(names_of(folder, "C:\\LFM2.5-1.2B\\LFM2-1.2B")).name == "LFM2"
    assert recognise(names_of(folder, None)).name == "LFM2"
    assert recognise(names_of(folder, 7)).name == "LFM2"


def test_a_downloaded_repository_is_known_by_its_folder_in_the_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--LiquidAI--LFM2.5-1.2B-Instruct-ONNX" / "snapshots" / "0123abc"
    assert recognise(names_of(snapshot, None)).name == "LFM2.5-1.2B"


def test_a_link_is_known_by_the_folder_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "LFM2.5-2.6B").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "LFM2.5-2.6B")
    assert recognise(names_of(tmp_path / "current", None)).name == "LFM2.5-2.6B"
