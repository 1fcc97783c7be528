"""Makes text from clients safe to show in headers and log lines."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """Return `text` with JSON escapes in place of characters that are not printable.

    Such characters are line breaks, control characters and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def escaped(text: str, limit: int) -> str:
    """Return `printable(text)`, cut after `limit` characters.

    "..." is appended if the text is cut.
    """
    shown = printable(text[:limit])
    return shown if len(text) <= limit and len(shown) <= limit else f"{shown[:limit]}..."
