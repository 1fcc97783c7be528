"""The API key, where the server was started with one."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Header

from server.api.state import Server
from server.errors import InvalidApiKeyError


async def require_key(
    server: Server, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> None:
    """Raises InvalidApiKeyError unless the request brings the key as `Authorization: Bearer KEY`."""
    if server.api_key is None:
        return
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise InvalidApiKeyError("No API key: send it as `Authorization: Bearer KEY`.")
    # Compared in a time that says nothing of how much is right.
    if not hmac.compare_digest(key.strip().encode("latin-1"), server.api_key.encode()):
        raise InvalidApiKeyError("Incorrect API key: it is not the one this server was started with.")
