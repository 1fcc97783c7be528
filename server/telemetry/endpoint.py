"""The /metrics endpoint."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import PlainTextResponse, Response

from server.telemetry.metrics import Metrics


def metrics_route(metrics: Metrics) -> APIRouter:
    """Return a router with GET /metrics, which Prometheus scrapes."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def exposition(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
        """Return metrics in Prometheus' text format, or in OpenMetrics if the client accepts it."""
        content, content_type = metrics.exposition(accept)
        return Response(content, headers={"Content-Type": content_type})

    return router
