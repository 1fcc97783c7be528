"""The deployment that serves the model.

Each replica runs one engine and the server's own application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Any, cast

from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from server.api.server_state import ServerState
from server.app import create_app, exempt_from_collection
from server.errors import StartupError
from server.ray.forwarding import ForwardedRequest, respond
from server.ray.options import replica_settings
from server.ray.prompts import PromptBlocks
from server.ray.response_stream import ReplyAddress
from server.ray.routing_stats import routing_stats
from server.settings import Settings
from server.telemetry.logs import configure_logging, resolved

POLL_SECONDS = 0.1


class Replica:
    """One replica, from loading its model to the end of its last stream.

    Ray Serve calls `reconfigure`, `check_health`, `record_routing_stats` and `__del__`.
    """

    def __init__(self) -> None:
        self._hosted: HostedApp | None = None

    async def reconfigure(self, options: Mapping[str, Any]) -> None:
        """Load the model with new options, and switch to it when it is ready.

        Running requests finish with the old options.

        Raises StartupError or pydantic's ValidationError if the model cannot be served with `options`.
        """
        settings = replica_settings(options)
        configure_logging(resolved(settings.log_format), settings.log_level)
        hosted = await HostedApp.start(settings)
        previous, self._hosted = self._hosted, hosted
        if previous is not None:
            await previous.close()

    async def answer(self, request: ForwardedRequest, address: ReplyAddress) -> None:
        """Answer a request, and return once the whole response has been sent to `address`."""
        await respond(self._app().asgi, request, address)

    async def prompt_blocks(self, known_identity: bytes) -> PromptBlocks | None:
        """Return the object with which the ingress names the blocks of prompts.

        Returns None if the ingress already has it.

        known_identity: `identity` of the object that the ingress has; b"" if it has none.
        """
        blocks = PromptBlocks.of_model(self._app().server.ready_model())
        return None if blocks.identity == known_identity else blocks

    async def check_health(self) -> None:
        """Raise ModelNotReadyError if /ready would return 503."""
        if self._hosted is not None:
            self._hosted.server.check_ready()

    async def record_routing_stats(self) -> dict[str, Any]:
        """Return this replica's report to the routers, with the fields of RoutingStats."""
        engine = self._app().server.ready_model().service.engine
        return asdict(await asyncio.to_thread(routing_stats, engine))

    async def __del__(self) -> None:
        """Stop the engine. Ray Serve calls this when the replica has no more requests."""
        if self._hosted is not None:
            await self._hosted.close()

    def _app(self) -> HostedApp:
        assert self._hosted is not None, "Ray Serve calls reconfigure first"
        return self._hosted


class HostedApp:
    """The server's application, for requests that arrive through Ray.

    asgi: the application to call.
    server: state of the application.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.asgi = cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, app), settings.forwarded_allow_ips))
        self.server: ServerState = app.state.server
        self._lifespan: AbstractAsyncContextManager[Any] = app.router.lifespan_context(app)
        self._drain_timeout = settings.drain_timeout

    @classmethod
    async def start(cls, settings: Settings) -> HostedApp:
        """Return an application that has loaded its model.

        Raises StartupError if the model cannot be loaded.
        """
        loaded = asyncio.Event()

        def ready() -> None:
            exempt_from_collection()
            loaded.set()

        app = create_app(settings, "Ray Serve", ready)
        app.state.give_up = loaded.set
        hosted = cls(app, settings)
        await hosted._lifespan.__aenter__()
        await loaded.wait()
        failure: Exception | None = app.state.failure
        if failure is not None:
            await hosted._lifespan.__aexit__(None, None, None)
            raise StartupError(f"The model cannot be loaded: {failure}") from failure
        return hosted

    async def close(self) -> None:
        """Stop the engine.

        Running requests get up to `drain_timeout` seconds to finish. Requests still running after that get an error.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_timeout
        while self.server.request_log.open and loop.time() < until:  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(POLL_SECONDS)
        self.server.stop()
        self.server.abandon()
        await self._lifespan.__aexit__(None, None, None)
