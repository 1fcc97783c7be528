"""Sends responses to HTTP/1.0 clients, which cannot decode chunks."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def end_with_connection(cycle: RequestResponseCycle) -> None:
    """Make `cycle` send its response without chunks, then close the connection.

    If the length of the body is unknown, the closed connection marks its end.
    """
    send, unknown_length = cycle.send, False

    async def send_unchunked(message: ASGISendEvent) -> None:
        nonlocal unknown_length
        if message["type"] == "http.response.start":
            headers = [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
            message["headers"] = headers
            unknown_length = all(name.lower() != b"content-length" for name, _ in headers)
            if unknown_length:
                cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and unknown_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.keep_alive = False
    cycle.send = send_unchunked  # type: ignore[method-assign]
