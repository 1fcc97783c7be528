"""The deployment that receives all requests.

It chooses a replica for each request, forwards the request, and streams the response back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from ray.util import get_node_ip_address
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from server.api.access.api_keys import Keyring
from server.api.access.auth import sent_secret
from server.api.exchange import request_timeout
from server.api.http.api_error import describe
from server.api.http.errors import error_response
from server.api.http.request_body import read_body
from server.api.http.request_id import HEADER as REQUEST_ID
from server.api.messages.dialect import ChooseAnthropic
from server.api.server_state import Limits
from server.app import keyring, limits
from server.errors import RequestTimeoutError
from server.ray.attempts import Attempts
from server.ray.forwarding import ForwardedRequest
from server.ray.options import replica_settings
from server.ray.prompts import PromptBlocks
from server.ray.response_stream import ResponseListener
from server.telemetry.logs import configure_logging, resolved

SESSION_ID = "x-session-id"
MODEL_SECONDS = 10.0
"""Seconds between checks for a change of the replicas' model."""
RETRY_SECONDS = 1.0
"""Seconds between attempts to get a tokenizer while the ingress has none."""

logger = logging.getLogger(__name__)


class Ingress:
    """The ingress deployment. Ray Serve calls `reconfigure` and `__call__`.

    replicas: Ray's handle for the `server.ray.replica.Replica` deployment.
    """

    def __init__(self, replicas: Any) -> None:
        self._replicas = replicas
        self._limits = Limits()
        self._keys = Keyring(())
        self._blocks: PromptBlocks | None = None
        self._following: asyncio.Task[None] | None = None
        self._listener: ResponseListener | None = None

    async def reconfigure(self, options: Mapping[str, Any]) -> None:
        """Apply new options.

        Raises StartupError or pydantic's ValidationError if they are invalid.
        """
        settings = replica_settings(options)
        configure_logging(resolved(settings.log_format), settings.log_level)
        self._limits, self._keys = limits(settings), keyring(settings)
        self._listener = self._listener or await ResponseListener.start(get_node_ip_address())
        self._following = self._following or asyncio.create_task(self._follow_model())

    async def __call__(self, request: Request) -> Response:
        """Return a response for Ray Serve to send. Sending it forwards the request."""
        return ForwardedResponse(self, request)

    async def forward(self, request: Request, send: Send) -> None:
        """Read a request, forward it and send the response.

        If the request fails, raises the error, or sends it as the last event of a stream that has started.
        """
        seconds = request_timeout(request, self._limits.request_timeout)
        deadline = asyncio.get_running_loop().time() + seconds
        body = await read_body(request, self._limits)
        blocks = await asyncio.to_thread(self._names, request, body)
        session = request.headers.get(SESSION_ID, "")
        handle = self._replicas.options(session_id=session, method_name="answer")
        assert self._listener is not None, "Ray Serve calls reconfigure first"
        attempts = Attempts(handle, self._listener, ForwardedRequest.of(request, body, blocks), request.scope, send)
        try:
            async with asyncio.timeout_at(deadline) as timer:
                await attempts.run(on_start=lambda: timer.reschedule(None))
        except TimeoutError:
            raise RequestTimeoutError(seconds) from None

    def _names(self, request: Request, body: bytes) -> tuple[bytes, ...]:
        """Return the names of the prompt's blocks.

        Returns no names if the request has a session ID, or if the model is not known yet.
        """
        if self._blocks is None or request.headers.get(SESSION_ID):
            return ()
        return self._blocks.names(request.scope["path"], body, self._key_name(request))

    def _key_name(self, request: Request) -> str | None:
        """Return the name of the request's API key; None without a valid key.

        If the key is wrong, the replica answers with an error.
        """
        headers = request.headers
        key = self._keys.find(sent_secret(headers.get("authorization"), headers.get("x-api-key")))
        return key.name if key else None

    async def _follow_model(self) -> None:
        """Keep the tokenizer and the templates up to date with the replicas' model."""
        while True:
            try:
                identity = self._blocks.identity if self._blocks else b""
                self._blocks = await self._replicas.prompt_blocks.remote(identity) or self._blocks
            except Exception as error:
                logger.info("The tokenizer cannot be fetched from a replica yet: %s", error)
            await asyncio.sleep(MODEL_SECONDS if self._blocks else RETRY_SECONDS)


class ForwardedResponse(Response):
    """The response of a replica, or an error in the dialect of the request."""

    def __init__(self, ingress: Ingress, request: Request) -> None:
        super().__init__()
        self._ingress = ingress
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        state = scope.setdefault("state", {})
        state["request_id"] = self._request.headers[REQUEST_ID]  # Ray's proxy has added it if the client sent none
        self._request.scope["state"] = state
        await ChooseAnthropic(self._respond)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(_without_request_id(message))

        try:
            await self._ingress.forward(self._request, send_noted)
        except Exception as error:
            if started:
                raise  # Ray closes the connection in the middle of the response
            response = error_response(describe(error, scope["state"]["request_id"]), self._request)
            await response(scope, receive, send_noted)


def _without_request_id(message: Message) -> Message:
    """Return `message` without the request's ID, which Ray's proxy adds itself."""
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [pair for pair in message["headers"] if pair[0].lower() != REQUEST_ID.encode()]}
