"""Makes text from clients safe to show in headers and log lines."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    r"""Return `text` with unprintable characters escaped as in JSON, such as `\n`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def escaped(text: str, limit: int) -> str:
    """Return `printable(text)`, cut to `limit` characters plus "..." if longer."""
    shown = printable(text[:limit])
    return shown if len(text) <= limit and len(shown) <= limit else f"{shown[:limit]}..."
