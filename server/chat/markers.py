"""The special tokens that LFM2 models write around tool calls and thoughts."""

from __future__ import annotations

from typing import AnyStr

CALL_START, CALL_END = "<|tool_call_start|>", "<|tool_call_end|>"
THINK_START, THINK_END = "<think>", "</think>"


def marker_prefix_length(marker: AnyStr, text: AnyStr) -> int:
    """Return the length of the longest incomplete `marker` at the end of `text`.

    Example: 3 for `</think>` and `Yes.</t`.
    """
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if marker.startswith(text[-n:])), 0)
