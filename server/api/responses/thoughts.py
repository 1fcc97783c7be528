"""Encodes thoughts for `encrypted_content`, which clients send back unread.

The text is not secret: the same response contains it in the clear.
"""

from __future__ import annotations

import base64
import binascii

_PREFIX = b"lfm:"


def sealed(thoughts: str) -> str:
    """Return `thoughts` as the value of `encrypted_content`."""
    return base64.b64encode(_PREFIX + thoughts.encode()).decode()


def unsealed(content: str) -> str | None:
    """Return the thoughts in a value of `encrypted_content`, or None if it is not one of `sealed`."""
    try:
        data = base64.b64decode(content.encode("ascii"), validate=True)
        return data.removeprefix(_PREFIX).decode() if data.startswith(_PREFIX) else None
    except (binascii.Error, ValueError):
        return None
