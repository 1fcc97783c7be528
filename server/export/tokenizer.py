"""Provides the default tokenizer for exports with random weights."""

from __future__ import annotations

import json
from pathlib import Path

BUILT_IN_TOKENIZER = Path(__file__).resolve().parent.parent / "demo"
"""The folder of the built-in model, with its tokenizer and template."""


def pad_vocabulary(path: Path, size: int) -> None:
    """Add a token to a tokenizer.json for each unused id below `size`.

    For example, id 512 gets the token "<512>".
    """
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    known = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    vocabulary |= {f"<{i}>": i for i in range(size) if i not in known}
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
