"""Response headers that say which parts of a request have no effect."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi.responses import Response

from server.api.http.request_id import current_request_id
from server.escape import escaped

UNENFORCED = "x-lfm-unenforced"
"""Lists the parts of tool schemas that are not enforced."""

DROPPED = "x-lfm-dropped-tools"
"""Lists the types of the built-in tools that were left out."""

MAX_HEADER = 1000  # characters

logger = logging.getLogger(__name__)


def warn_of_unenforced(response: Response, parts: Iterable[str]) -> None:
    """Add a header and a log line that list the unenforced parts of tool schemas."""
    _warn(response, UNENFORCED, "; ", parts, "parts of tool schemas are not enforced")


def warn_of_dropped_tools(response: Response, kinds: Iterable[str]) -> None:
    """Add a header and a log line that list the built-in tools that were left out."""
    _warn(response, DROPPED, ", ", dict.fromkeys(kinds), "tools that this server does not have")


def _warn(response: Response, header: str, separator: str, parts: Iterable[str], what: str) -> None:
    listed = escaped(separator.join(part[:MAX_HEADER] for part in list(parts)[:MAX_HEADER]), MAX_HEADER)
    if listed:
        logger.warning("Request %s: %s: %s", current_request_id.get(), what, listed)
        response.headers[header] = listed.encode("ascii", "backslashreplace").decode()[:MAX_HEADER]
