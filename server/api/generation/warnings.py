"""Response headers that list ignored parts of a request."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi.responses import Response

from server.api.http.request_id import current_request_id
from server.escape import escaped

UNENFORCED = "x-lfm-unenforced"
"""Response header that lists the unenforced parts of tool schemas."""

DROPPED = "x-lfm-dropped-tools"
"""Response header that lists ignored built-in tools of OpenAI and Anthropic, such as "web_search"."""

MAX_HEADER = 1000  # characters

logger = logging.getLogger(__name__)


def warn_of_unenforced(response: Response, parts: Iterable[str]) -> None:
    """Report unenforced parts of tool schemas in a header and in the log."""
    _warn(response, UNENFORCED, "; ", parts, "parts of tool schemas are not enforced")


def warn_of_dropped_tools(response: Response, kinds: Iterable[str]) -> None:
    """Report ignored built-in tools in a header and in the log.

    kinds: types of the tools, such as "web_search".
    """
    _warn(response, DROPPED, ", ", dict.fromkeys(kinds), "tools that this server does not have")


def _warn(response: Response, header: str, separator: str, parts: Iterable[str], what: str) -> None:
    listed = escaped(separator.join(part[:MAX_HEADER] for part in list(parts)[:MAX_HEADER]), MAX_HEADER)
    if listed:
        logger.warning("Request %s: %s: %s", current_request_id.get(), what, listed)
        response.headers[header] = listed.encode("ascii", "backslashreplace").decode()[:MAX_HEADER]
