"""The tokenizer that random weights get when they are given none. Knows no graph."""

from __future__ import annotations

import json
from pathlib import Path

BUILT_IN_TOKENIZER = Path(__file__).resolve().parent.parent / "demo"
"""The built-in model's folder, for its tokenizer, template and generation settings."""


def pad_vocabulary(path: Path, size: int) -> None:
    """Give every id below `size` that a tokenizer.json lacks a text of its own, so that it can be shown."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    known = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    vocabulary |= {f"<{i}>": i for i in range(size) if i not in known}
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
