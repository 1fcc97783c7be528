"""The shape of all errors of the API."""

from __future__ import annotations

from typing import Any

import httpx


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check a response's status and shape, and return its error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    (error,) = answer.json().values()
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    return error  # type: ignore[no-any-return]
