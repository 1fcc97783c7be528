"""The command line's answer to invalid arguments."""

from __future__ import annotations

import pytest

from server.arguments import UsageError, parse


def refusals(*argv: str) -> list[str]:
    """Return the lines that refuse these arguments."""
    with pytest.raises(UsageError) as caught:
        parse(argv)
    return str(caught.value).splitlines()
