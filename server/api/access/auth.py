"""Who asks: the key, where there are keys, else the address."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Request

from server.api.server_state import Server
from server.errors import InvalidApiKeyError


async def require_key(
    request: Request, server: Server, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> None:
    """Note in `request.state` who asks: `tenant`, and with keys `key_name` and `quota`.

    Raises InvalidApiKeyError unless the request brings one of the keys there are as `Authorization: Bearer KEY`.
    """
    state = request.state
    state.key_name, state.quota = None, None
    state.tenant = request.client.host if request.client else ""
    if not server.keys:
        return
    scheme, _, secret = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise InvalidApiKeyError("No API key: send it as `Authorization: Bearer KEY`.")
    key = server.keys.find(secret.strip().encode("latin-1"))
    if key is None:
        raise InvalidApiKeyError("Incorrect API key: it is none that this server was started with.")
    state.key_name = state.tenant = key.name
    state.quota = server.quota(key)
