"""The HTTP client of the chat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from server.client.events import EventParser
from server.client.urls import key_header
from server.errors import LfmServeError

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
TIMEOUT = httpx.Timeout(10, read=None)
"""Timeouts in seconds.

Reading has none: the server may prefill a long prompt for minutes, and Ctrl-C ends the wait.
"""


class EndpointError(LfmServeError):
    """A server cannot be reached, reports an error or breaks off its answer."""


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """A server with OpenAI's API.

    url: base URL of the API, such as http://127.0.0.1:8000/v1.
    """

    url: str
    key: str | None

    def models(self) -> list[str]:
        """Return the names of the server's models.

        Raises EndpointError if the server sends no list of models.
        """
        try:
            with httpx.Client(timeout=TIMEOUT, headers=key_header(self.key)) as client:
                response = client.get(f"{self.url}/models")
            if response.status_code != 200:
                raise _refusal(response)
            return [str(model["id"]) for model in response.json()["data"]]
        except httpx.HTTPError as error:
            raise EndpointError(f"{self.url} cannot be reached: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise EndpointError(f"{self.url}/models lists no models: is this an OpenAI endpoint?") from error

    @asynccontextmanager
    async def events(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Request a streamed answer, and yield its events to a `with` block.

        The end of the block closes the connection, so that the server stops generating.

        body: a chat request without the fields in STREAMED.

        Raises EndpointError if the request fails, even within the block.
        """
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT, headers=key_header(self.key)) as client,
                client.stream("POST", f"{self.url}/chat/completions", json=body | STREAMED) as response,
            ):
                if response.status_code != 200:
                    await response.aread()
                    raise _refusal(response)
                yield _events(response)
        except httpx.HTTPError as error:
            raise EndpointError(f"The connection to {self.url} failed: {error or type(error).__name__}") from error


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    parser = EventParser()
    async for data in response.aiter_bytes():
        try:
            events = parser.feed(data)
        except ValueError as error:
            raise EndpointError(f"The server sent an event that is not JSON: {error}") from error
        for event in events:
            if "error" in event:
                raise EndpointError(_message(event["error"]) + _request_id(response))
            yield event


def _refusal(response: httpx.Response) -> EndpointError:
    """Return an error with the status, the server's message and the request's ID."""
    try:
        message = _message(json.loads(response.text)["error"])
    except (ValueError, LookupError, TypeError):
        message = response.text[:300]
    return EndpointError(f"{response.status_code} {response.reason_phrase}: {message}{_request_id(response)}")


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _request_id(response: httpx.Response) -> str:
    request_id = response.headers.get("x-request-id")
    return f" (request {request_id})" if request_id else ""
