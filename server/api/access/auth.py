"""Identifies clients by API key, or by address if the server has no keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Request

from server.api.server_state import Server
from server.errors import InvalidApiKeyError


async def require_key(
    request: Request,
    server: Server,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    x_api_key: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> None:
    """Authenticate a request and set its tenant and rate limit.

    Sets `tenant`, `key_name` and `rate_limit` in `request.state`. If the server has no keys, the tenant is
    the client's address, and `key_name` and `rate_limit` are None.

    Raises InvalidApiKeyError if the server has keys and the request sends none of them.
    """
    state = request.state
    state.key_name, state.rate_limit = None, None
    state.tenant = request.client.host if request.client else ""
    if not server.keys:
        return
    secret = sent_secret(authorization, x_api_key)
    if not secret:
        message = "The API key is missing: send the header `Authorization: Bearer KEY` or `x-api-key: KEY`."
        raise InvalidApiKeyError(message)
    key = server.keys.find(secret)
    if key is None:
        raise InvalidApiKeyError("Incorrect API key: the server has no such key.")
    state.key_name = state.tenant = key.name
    state.rate_limit = server.rate_limit(key)


def sent_secret(authorization: str | None, x_api_key: str | None) -> bytes:
    """Return the API key that a request contains; empty if there is none.

    authorization, x_api_key: values of the headers `Authorization` and `x-api-key`.
    """
    scheme, _, secret = (authorization or "").partition(" ")
    secret = secret if scheme.lower() == "bearer" else x_api_key or ""
    return secret.strip().encode("latin-1")
