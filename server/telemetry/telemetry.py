"""One server's metrics, request log and traces, put together and fastened to its application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from fastapi import FastAPI

from server.api.http.request_log import Journal, Journaled
from server.telemetry.endpoint import metrics_route
from server.telemetry.logs import RequestLog
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import wanted_traces


class Telemetry:
    """`ready` says whether requests are taken, `log_prompts` whether what they ask may be logged."""

    def __init__(self, ready: Callable[[], bool], log_prompts: bool) -> None:
        self._journal = Journal()
        self.metrics = Metrics(self._journal, ready)
        self._traces = wanted_traces(os.environ)
        self._journal.listeners += [self.metrics.request, RequestLog(log_prompts).request]
        if self._traces is not None:
            self._journal.listeners.append(self._traces.request)

    def install(self, app: FastAPI) -> None:
        """Give `app` /metrics, and middleware that is to be outside of all that answers, and inside of RequestId."""
        app.include_router(metrics_route(self.metrics))
        app.add_middleware(Journaled, journal=self._journal)
        if self._traces is not None:
            app.add_middleware(self._traces.middleware)

    async def close(self) -> None:
        """Send what is still to be sent."""
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
