"""Converts thoughts to `encrypted_content` and back.

Nothing is encrypted: the response also contains the thoughts as plain text.
"""

from __future__ import annotations

import base64
import binascii

_PREFIX = b"lfm:"


def sealed(thoughts: str) -> str:
    """Return `thoughts` as the value of `encrypted_content`."""
    return base64.b64encode(_PREFIX + thoughts.encode()).decode()


def unsealed(content: str) -> str | None:
    """Return the thoughts in `content`, or None if `sealed` did not create it."""
    try:
        data = base64.b64decode(content.encode("ascii"), validate=True)
        return data.removeprefix(_PREFIX).decode() if data.startswith(_PREFIX) else None
    except (binascii.Error, ValueError):
        return None
