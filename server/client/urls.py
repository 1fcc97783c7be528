"""Checks and completes the URLs of endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class NamedUrl:
    """An endpoint's base URL (.../v1) and its name in tables and plots."""

    name: str
    url: str


def base_url(text: str) -> str:
    """Return an endpoint's base URL: `http://host:8000/` -> `http://host:8000/v1`.

    Raises ValueError if `text` is not an HTTP URL, or has a query or fragment.
    """
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is not a number below 65536
        valid = False
    if not valid or parts.query or parts.fragment:
        raise ValueError("must be a URL such as http://127.0.0.1:8000/v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def named_url(text: str) -> NamedUrl:
    """Return the endpoint that "NAME=URL" or "URL" describes.

    The default name is the URL's host and port.

    Raises ValueError if `base_url` rejects the URL.
    """
    name, separator, url = text.partition("=")
    if separator and name and "/" not in name:
        return NamedUrl(name, base_url(url))
    return NamedUrl(urlsplit(base_url(text)).netloc, base_url(text))


def key_header(key: str | None) -> dict[str, str]:
    """Return the Authorization header for an API key, or {} without a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}
