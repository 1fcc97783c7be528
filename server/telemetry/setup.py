"""Creates and installs the metrics, request log and traces of a server."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from fastapi import FastAPI

from server.api.http.request_records import RequestLog, RequestLogMiddleware
from server.concurrency.background import in_background
from server.telemetry.endpoint import metrics_route
from server.telemetry.logs import RequestLogWriter
from server.telemetry.metrics import Metrics
from server.telemetry.trace_exporters import wanted_traces

CLOSE_SECONDS = 1.5
"""Maximum time to send the last traces when the server stops."""

logger = logging.getLogger(__name__)


class Telemetry:
    """The metrics, request log and traces of one server.

    OpenTelemetry's environment variables switch traces on.
    """

    def __init__(
        self, request_log: RequestLog, ready: Callable[[], bool], log_prompts: bool, vllm_name: str | None
    ) -> None:
        """Create the metrics, log writer and traces, as listeners of `request_log`.

        ready: returns whether the server accepts requests.
        log_prompts: whether to log prompts.
        vllm_name: model name in the metrics under vLLM's names; None to leave these metrics out.
        """
        self._request_log = request_log
        self.metrics = Metrics(request_log, ready, vllm_name)
        self._traces = wanted_traces(os.environ)
        request_log.listeners += [self.metrics.request, RequestLogWriter(log_prompts).request]
        if self._traces is not None:
            request_log.listeners.append(self._traces.request)

    def install(self, app: FastAPI) -> None:
        """Add /metrics and middleware to `app`.

        Call this after adding all other middleware except RequestId.
        """
        app.include_router(metrics_route(self.metrics))
        app.add_middleware(RequestLogMiddleware, log=self._request_log)
        if self._traces is not None:
            app.add_middleware(self._traces.middleware)

    async def close(self) -> None:
        """Send the last traces. They are lost if this takes over `CLOSE_SECONDS`."""
        if self._traces is None:
            return
        closing = asyncio.wrap_future(in_background(self._traces.close, "traces"))
        done, _ = await asyncio.wait((closing,), timeout=CLOSE_SECONDS)
        if not done:
            closing.cancel()
            logger.warning("The trace collector does not respond: the last traces are lost.")
