"""Recognizes LFM2 models by name, and lists facts from their model cards.

Configs do not suffice. LFM2.5 has the `model_type` of LFM2. LFM2-8B-A1B has 128,000 positions in its config, and 32,768
on its card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENERATION = re.compile(r"lfm[-_]?2(?P<half>[._p]?5(?![\d.a-z]))?", re.IGNORECASE)
SIZE = re.compile(r"(?<![\d.a-z])\d+(\.\d+)?[bm](-?a\d+(\.\d+)?b)?(?![a-z\d])", re.IGNORECASE)
CACHED_REPOSITORY = "models--"
"""The prefix of a repository's folder in the hub's cache."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model of the LFM2 family, as described by its model card.

    context: maximum number of tokens of a prompt and its answer.
    sampling: sampling parameters if generation_config.json sets none.
    """

    name: str
    context: int
    sampling: Mapping[str, float]


LFM2_SAMPLING = {"temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05}
SMALL_SAMPLING = {"temperature": 0.1, "top_k": 50, "repetition_penalty": 1.05}
LARGE_SAMPLING = {"temperature": 0.2, "top_k": 80, "repetition_penalty": 1.05}

LFM2 = Member("LFM2", 32_768, LFM2_SAMPLING)
"""LFM2 itself, and all members of the family that LFM2_5 does not list."""

LFM2_5 = {
    "230m": Member("LFM2.5-230M", 32_768, SMALL_SAMPLING),
    "350m": Member("LFM2.5-350M", 32_768, SMALL_SAMPLING),
    "1.2b": Member("LFM2.5-1.2B", 32_768, SMALL_SAMPLING),
    "2.6b": Member("LFM2.5-2.6B", 128_000, LARGE_SAMPLING),
    "8b-a1b": Member("LFM2.5-8B-A1B", 128_000, LARGE_SAMPLING),
    "24b-a2b": Member("LFM2.5-24B-A2B", 128_000, LFM2_SAMPLING),
}
"""The members of LFM2.5, by size."""


def member_of(folder: Path, config: Mapping[str, Any]) -> Member | None:
    """Return the member of the LFM2 family in a folder, or None for another family."""
    if not str(config.get("model_type")).startswith("lfm2"):
        return None
    return recognise(names_of(folder, config.get("_name_or_path")))


def recognise(names: Iterable[str]) -> Member:
    """Return the member of the LFM2 family that `names` identify.

    Example: "LFM2.5-350M-ONNX" -> LFM2.5-350M. Only the first name with "LFM2" counts. Returns LFM2
    if no member in LFM2_5 matches.
    """
    for name in names:
        if generation := GENERATION.search(name):
            sizes = {match[0].lower() for match in SIZE.finditer(name)}
            known = sizes.pop() if generation["half"] and len(sizes) == 1 else ""
            return LFM2_5.get(known, LFM2)
    return LFM2


def names_of(folder: Path, name_or_path: object) -> Iterable[str]:
    """Yield names that may identify the model in a folder, the most reliable first.

    These are the folder's name, the name of its repository in the hub's cache, and the parts of `name_or_path`.

    name_or_path: `_name_or_path` in the config.
    """
    for path in (folder.absolute(), folder.resolve()):
        yield path.name
        yield from (part for part in reversed(path.parts) if part.startswith(CACHED_REPOSITORY))
    if isinstance(name_or_path, str):
        yield from reversed(re.split(r"[/\\]", name_or_path))
